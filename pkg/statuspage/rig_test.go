package statuspage

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/server"
	"tekton.host/pkg/server/servertest"
	"tekton.host/pkg/spec"
)

const testToken = "0123456789abcdef0123456789abcdef"

// rig is a daemon's API over a backend without a host, and the page beside it.
type rig struct {
	t       *testing.T
	backend *servertest.Backend
	config  *Config
	server  *Server
	url     string
	dir     string
	api     *server.Server
	// stopDaemon and wait for its end.
	stopDaemon func()
	browser    *http.Client // with a jar of cookies
}

// newRig serves a state. options change the configuration first.
func newRig(t *testing.T, state servertest.State, options ...func(*Config)) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "tks") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{t: t, backend: servertest.New(state)}
	api, err := server.New(server.Options{Backend: r.backend})
	if err != nil {
		t.Fatal(err)
	}
	r.dir, r.api = dir, api
	r.startDaemon()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(testToken+"\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	r.config = &Config{Listen: "127.0.0.1:1", Socket: filepath.Join(dir, "read"), OperateSocket: filepath.Join(dir, "operate"), TokenFile: token}
	for _, o := range options {
		o(r.config)
	}
	r.server = New(r.config, logr.Discard())
	ctx, cancel := context.WithCancel(context.Background())
	r.server.stop = ctx.Done()
	web := httptest.NewServer(r.server.Handler())
	r.url = web.URL
	r.server.names[strings.TrimPrefix(web.URL, "http://")] = true
	mirrored := make(chan struct{})
	go func() {
		defer close(mirrored)
		r.server.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-mirrored
		web.CloseClientConnections()
		web.Close()
		r.stopDaemon()
	})
	jar, _ := cookiejar.New(nil)
	r.browser = &http.Client{Jar: jar, Timeout: 20 * time.Second}
	r.eventually("the daemon is heard", func() bool {
		v, _ := r.server.mirror.View()
		return v.Err == nil && len(v.Events) == len(state.Events)
	})
	return r
}

// startDaemon has the API answer on its narrow sockets.
func (r *rig) startDaemon() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	for name, serve := range map[string]func(context.Context, net.Listener) error{"read": r.api.ServeReaders, "operate": r.api.ServeOperators} {
		l, err := server.Listen(server.ListenOptions{Path: filepath.Join(r.dir, name)})
		if err != nil {
			r.t.Fatal(err)
		}
		go func() { ended <- serve(ctx, l) }()
	}
	r.stopDaemon = sync.OnceFunc(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				r.t.Error(err)
			}
		}
	})
}

func (r *rig) eventually(what string, holds func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("never: %s", what)
		}
	}
}

// get a page.
func (r *rig) get(path string) (status int, body string) {
	r.t.Helper()
	return r.answer(r.browser.Get(r.url + path))
}

// post a form, with the word of the session that a page has.
func (r *rig) post(path string, form url.Values) (status int, body string) {
	r.t.Helper()
	return r.answer(r.browser.PostForm(r.url+path, form))
}

func (r *rig) answer(resp *http.Response, err error) (int, string) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// signIn and return the word that goes with forms.
func (r *rig) signIn() string {
	r.t.Helper()
	if status, body := r.post("/login", url.Values{"token": {testToken}}); status != http.StatusOK {
		r.t.Fatalf("sign in: %d %s", status, body)
	}
	_, body := r.get("/objects/Container/shop")
	m := csrfField.FindStringSubmatch(body)
	if m == nil {
		r.t.Fatalf("no action is offered:\n%s", body)
	}
	return m[1]
}

// populated is a host with a bit of everything, some of which does not work.
func populated(now time.Time) servertest.State {
	at := func(ago time.Duration) time.Time { return now.Add(-ago) }
	seen := func(kind, name string, phase v1alpha1.Phase, address string, spec map[string]any, conditions ...v1alpha1.Condition) v1alpha1.Item {
		item := v1alpha1.Item{TypeMeta: v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: kind}, Spec: spec}
		item.Metadata = v1alpha1.ItemMeta{Name: name, UID: "uid-" + name, Generation: 3, Source: v1alpha1.SourcePosition{Name: "local", File: "/etc/tekton/specs/" + name + ".yaml", Line: 1}}
		item.Status = v1alpha1.Status{Phase: phase, ObservedGeneration: 3, Conditions: conditions, Address: address}
		if address != "" {
			item.Status.Machine, item.Status.StartedAt = name+"-1", at(50*time.Hour)
		}
		return item
	}
	is := func(kind string, status v1alpha1.ConditionStatus, reason, message string, ago time.Duration) v1alpha1.Condition {
		return v1alpha1.Condition{Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: at(ago)}
	}
	ready := func() []v1alpha1.Condition {
		return []v1alpha1.Condition{
			is("Ready", "True", "Ready", "", 50*time.Hour), is("SpecValid", "True", "Valid", "", 51*time.Hour),
			is("Started", "True", "Running", "", 50*time.Hour), is("Answered", "True", "Answered", "port 8080", 50*time.Hour),
		}
	}
	routed := func(item v1alpha1.Item, urls ...string) v1alpha1.Item {
		item.Status.URLs = urls
		return item
	}
	failing := is("Answered", "False", "ProbeFailed", "GET /healthz on port 9000 was answered with 502", 7*time.Minute)
	failing.NextRetry = now.Add(40 * time.Second)
	building := seen("Preview", "shop-214", v1alpha1.PhaseBuilding, "", nil, is("Ready", "False", "Building", "", 2*time.Minute), is("Built", "False", "Building", "building, 31 of 58", 2*time.Minute))
	building.Status.Build = &v1alpha1.BuildStatus{Running: true, StartedAt: at(2 * time.Minute), Phase: "building", Done: 31, Expected: 58, Building: []string{"node-modules"}}
	asleep := routed(seen("Preview", "shop-198", v1alpha1.PhaseAsleep, "", nil, is("Ready", "False", "Asleep", "nobody has asked for it", 26*time.Hour)), "https://shop-198.preview.example.org/")
	asleep.Status.AsleepSince = at(26 * time.Hour)
	db := func(name string) map[string]any { return map[string]any{"name": name} }
	event := func(n int64, ago time.Duration, kind v1alpha1.EventType, object, reason, message string) v1alpha1.Event {
		what, name, _ := strings.Cut(object, "/")
		return v1alpha1.Event{Seq: n, Time: at(ago), Type: kind, Object: v1alpha1.Ref{Kind: what, Name: name}, UID: "uid-" + name, Reason: reason, Message: message}
	}
	var log strings.Builder
	for i := range 30 {
		fmt.Fprintf(&log, "%s GET /items/%d 200 %dms\n", at(time.Duration(30-i)*time.Second).UTC().Format(time.TimeOnly), i*17, 3+i%5)
	}
	return servertest.State{
		Version: v1alpha1.VersionInfo{Version: "0.9.0", Installation: "f3a1"},
		Items: []v1alpha1.Item{
			seen("Agent", "fix-login", v1alpha1.PhaseReady, "10.100.0.14", map[string]any{"volumes": []any{map[string]any{"name": "home", "path": "/home/agent"}}}, ready()...),
			routed(seen("Container", "billing", v1alpha1.PhaseFailed, "10.100.0.8", map[string]any{"databases": []any{db("ledger")}, "network": map[string]any{"links": []any{map[string]any{"to": "queue", "port": 6379}}}},
				is("Ready", "False", "ProbeFailed", "", 7*time.Minute), failing), "https://billing.example.org/"),
			seen("Container", "mailer", v1alpha1.PhasePending, "", map[string]any{"network": map[string]any{"links": []any{map[string]any{"to": "queue", "port": 6379}}}},
				is("Ready", "False", "SecretMissing", "", 3*time.Hour), is("SecretsReady", "False", "SecretMissing", "secret smtp-password does not exist", 3*time.Hour)),
			seen("Container", "queue", v1alpha1.PhaseReady, "10.100.0.6", map[string]any{"volumes": []any{map[string]any{"name": "data", "path": "/data"}}, "network": map[string]any{"ports": []any{map[string]any{"hostIP": "127.0.0.1", "hostPort": 6379, "protocol": "tcp"}}}}, ready()...),
			routed(seen("Container", "shop", v1alpha1.PhaseReady, "10.100.0.4", map[string]any{"databases": []any{db("main"), db("search")}, "volumes": []any{map[string]any{"name": "uploads", "path": "/uploads"}}}, ready()...), "https://shop.example.org/", "https://www.example.org/"),
			asleep, building,
		},
		Sources: []v1alpha1.SourceStatus{
			{Name: "local", Path: "/etc/tekton/specs", Objects: 5, Complete: true},
			{Name: "team", Objects: 2, Complete: true, Git: &v1alpha1.GitStatus{URL: "https://git.example.org/team/specs.git", Branch: "main", Commit: "9f31c0de77aa", SyncedAt: at(40 * time.Second)}},
		},
		Problems: []spec.Problem{{Position: spec.Position{File: "/etc/tekton/specs/cron.yaml", Line: 9, Column: 3}, Field: "spec.resources", Reason: "UnknownField", Message: `unknown field "memory", did you mean "memoryMax"?`}},
		Events: []v1alpha1.Event{
			event(101, 50*time.Hour, "Normal", "Container/shop", "Ready", "it answers on port 8080"),
			event(102, 26*time.Hour, "Normal", "Preview/shop-198", "Asleep", "nobody has asked for it for 30m"),
			event(103, 3*time.Hour, "Warning", "Container/mailer", "SecretMissing", "secret smtp-password does not exist"),
			event(104, 8*time.Minute, "Normal", "Container/billing", "SpecChanged", "generation 3: spec.command"),
			event(105, 7*time.Minute, "Warning", "Container/billing", "ProbeFailed", "GET /healthz on port 9000 was answered with 502"),
			event(106, 2*time.Minute, "Normal", "Preview/shop-214", "Building", "commit 4c04937a1b2c"),
		},
		Plan: v1alpha1.PlanReport{Objects: []v1alpha1.PlanObject{
			{Kind: "Container", Name: "billing", Action: v1alpha1.PlanUpdate, Class: v1alpha1.PlanReplacement, Strategy: "Recreate",
				Fields: []v1alpha1.PlanField{{Path: "spec.command", Old: []byte(`["billing","serve"]`), New: []byte(`["billing","serve","--strict"]`)}},
				Data:   []v1alpha1.PlanData{{What: v1alpha1.DataDatabase, Name: "ledger", Effect: v1alpha1.DataKept}}, Steps: []string{"stop billing-1", "start billing-2"}},
			{Kind: "Container", Name: "shop", Action: v1alpha1.PlanNone},
		}},
		Logs: map[string]string{"container/shop": log.String(), "container/billing": "listening on :9000\npanic: ledger is locked\n"},
	}
}
