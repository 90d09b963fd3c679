package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/server/wire"
	"tekton.host/pkg/spec"
)

// forReaders is all that readers may ask. Who adds a route decides here, too.
var forReaders = []string{
	"GET /metrics", "GET /v1/events", "GET /v1/objects", "GET /v1/problems", "GET /v1/sources", "GET /v1/version",
	"POST /v1/plan", "POST /v1/sources/{name}/sync",
}

// forOperators is what operators may ask beside it.
var forOperators = []string{
	"GET /v1/objects/{kind}/{name}/logs", "GET /v1/usage", "POST /v1/objects/{kind}/{name}/restart",
	"POST /v1/sources/{name}/resume", "POST /v1/sources/{name}/suspend",
}

// shown is a Backend that answers what readers and operators may ask; another call is a panic.
type shown struct {
	Backend
	synced, changed []string
}

func (*shown) Logs(context.Context, v1alpha1.Ref, v1alpha1.LogOptions) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("")), nil
}
func (*shown) Leader(context.Context, v1alpha1.Ref) (Leader, error) { return Leader{}, nil }
func (*shown) Usage(context.Context) (v1alpha1.UsageReport, error) {
	return v1alpha1.UsageReport{}, nil
}
func (b *shown) Restart(_ context.Context, ref v1alpha1.Ref) error {
	b.changed = append(b.changed, "restart "+ref.Name)
	return nil
}
func (b *shown) SuspendSource(_ context.Context, name string, suspended bool) error {
	b.changed = append(b.changed, fmt.Sprintf("suspend %s %t", name, suspended))
	return nil
}

func (*shown) Version(context.Context) (v1alpha1.VersionInfo, error) {
	return v1alpha1.VersionInfo{}, nil
}
func (*shown) List(context.Context) ([]v1alpha1.Item, error)            { return nil, nil }
func (*shown) Changed() <-chan struct{}                                 { return nil }
func (*shown) Sources(context.Context) ([]v1alpha1.SourceStatus, error) { return nil, nil }
func (*shown) Problems(context.Context) ([]spec.Problem, error)         { return nil, nil }
func (*shown) Events(context.Context, int64) ([]v1alpha1.Event, error)  { return nil, nil }
func (*shown) EventsChanged() <-chan struct{}                           { return nil }
func (*shown) Plan(context.Context, []v1alpha1.File) (v1alpha1.PlanReport, error) {
	return v1alpha1.PlanReport{}, nil
}
func (b *shown) SyncSource(_ context.Context, name string) (v1alpha1.GitStatus, error) {
	b.synced = append(b.synced, name)
	return v1alpha1.GitStatus{}, nil
}

func newShown(t *testing.T) (*Server, *shown) {
	t.Helper()
	b := &shown{}
	s, err := New(Options{Backend: b, Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("up 1\n")) })})
	if err != nil {
		t.Fatal(err)
	}
	return s, b
}

// asks sends a request of a pattern with values that are names.
func asks(h http.Handler, pattern string) (status int, e wire.Error) {
	method, path, _ := strings.Cut(pattern, " ")
	path = strings.NewReplacer("{kind}", "Container", "{name}", "web", "{id}", "volume-web").Replace(path)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader("{}")))
	if w.Code != http.StatusOK {
		// What is no Error stays an empty one.
		_ = json.Unmarshal(w.Body.Bytes(), &e)
	}
	return w.Code, e
}

// TestOperators: of all routes, operators have those of readers and the listed ones;
// every other one is refused and reaches nobody.
func TestOperators(t *testing.T) {
	s, b := newShown(t)
	want := slices.Sorted(slices.Values(slices.Concat(forReaders, forOperators)))
	var open []string
	for _, r := range s.routes(http.NotFoundHandler()) {
		if slices.Contains(want, r.pattern) {
			open = append(open, r.pattern)
			if status, e := asks(s.operators, r.pattern); status != http.StatusOK {
				t.Errorf("%s: %d %+v", r.pattern, status, e)
			}
			continue
		}
		if status, e := asks(s.operators, r.pattern); status != http.StatusForbidden || e.Code != wire.Forbidden || !strings.Contains(e.Message, "not for operators") || e.Next == "" {
			t.Errorf("%s: %d %+v", r.pattern, status, e)
		}
	}
	if slices.Sort(open); !slices.Equal(open, want) {
		t.Errorf("there are only %q", open)
	}
	if !slices.Equal(b.changed, []string{"restart web", "suspend web true", "suspend web false"}) {
		t.Errorf("changed %q", b.changed)
	}
}

// TestReaders: of all routes that there are, readers have the listed ones; every
// other one, and any other method, is refused with a sentence and reaches nobody.
func TestReaders(t *testing.T) {
	s, b := newShown(t)
	var readable []string
	for _, r := range s.routes(http.NotFoundHandler()) {
		if slices.Contains(forReaders, r.pattern) {
			readable = append(readable, r.pattern)
			if status, e := asks(s.readers, r.pattern); status != http.StatusOK {
				t.Errorf("%s: %d %+v", r.pattern, status, e)
			}
			continue
		}
		if status, e := asks(s.readers, r.pattern); status != http.StatusForbidden || e.Code != wire.Forbidden || !strings.Contains(e.Message, "changes nothing") || e.Next == "" {
			t.Errorf("%s: %d %+v", r.pattern, status, e)
		}
	}
	slices.Sort(readable)
	if !slices.Equal(readable, forReaders) {
		t.Errorf("there are only %q", readable)
	}
	if !slices.Equal(b.synced, []string{"web"}) {
		t.Errorf("synced %q", b.synced)
	}
	for _, pattern := range slices.Concat(forReaders, []string{"GET /", "GET /v1", "GET /v1/other", "GET /v1/objects/", "GET /v1/objects/Container/web"}) {
		_, path, _ := strings.Cut(pattern, " ")
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"} {
			if slices.Contains(forReaders, method+" "+path) {
				continue
			}
			if status, _ := asks(s.readers, method+" "+path); status != http.StatusForbidden {
				t.Errorf("%s %s: %d", method, path, status)
			}
		}
	}
}

// TestReadersOddPaths: no spelling of a path leads where the path does not.
func TestReadersOddPaths(t *testing.T) {
	s, _ := newShown(t)
	for _, path := range []string{
		"//v1/secrets", "/v1/objects/../secrets", "/v1/./secrets", "/v1/objects/%2e%2e/secrets", "/v1/objects%2f..%2fsecrets",
		"/V1/secrets", "/v1/secrets/", "/v1/sources/a/sync/../release-deletes", "/v1/sources/a%2fsync", "/v1/sources/%2e%2e/sync",
	} {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
			w := httptest.NewRecorder()
			s.readers.ServeHTTP(w, httptest.NewRequest(method, path, nil))
			// A redirect is asked again, and answered as what it leads to.
			if redirected := w.Code/100 == 3; w.Code != http.StatusForbidden && w.Code != http.StatusUnprocessableEntity && !redirected {
				t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
			}
		}
	}
}

// TestReadersOnTheirSocket: the two sockets serve what is theirs, and readers who
// hold connections take none from others.
func TestReadersOnTheirSocket(t *testing.T) {
	s, _ := newShown(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for name, serve := range map[string]func(context.Context, net.Listener) error{"all": s.Serve, "read": s.ServeReaders} {
		l, err := Listen(ListenOptions{Path: filepath.Join(dir, name)})
		if err != nil {
			t.Fatal(err)
		}
		go func() { ended <- serve(ctx, l) }()
	}
	get := func(socket, path string) int {
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, socket))
		}}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Get("http://tekton" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if got := []int{get("read", wire.PathObjects), get("read", wire.PathSecrets), get("all", "/v1/nothing")}; !slices.Equal(got, []int{200, 403, 404}) {
		t.Errorf("answers %v", got)
	}
	for range maxNarrow + 10 {
		conn, err := net.Dial("unix", filepath.Join(dir, "read"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if got := get("all", wire.PathObjects); got != http.StatusOK {
		t.Errorf("beside readers that hang: %d", got)
	}
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// slowPlans is a Backend that makes a plan as long as nobody lets it go.
type slowPlans struct {
	Backend
	entered, leave chan struct{}
}

func (b *slowPlans) Plan(context.Context, []v1alpha1.File) (v1alpha1.PlanReport, error) {
	b.entered <- struct{}{}
	<-b.leave
	return v1alpha1.PlanReport{}, nil
}

// TestPlansOneByOne: a socket has one plan made at a time. Who waits there, or is
// slow to ask, holds up nobody, least of all at the other one.
func TestPlansOneByOne(t *testing.T) {
	b := &slowPlans{entered: make(chan struct{}, 10), leave: make(chan struct{})}
	s, err := New(Options{Backend: b})
	if err != nil {
		t.Fatal(err)
	}
	request := func(body io.Reader) *http.Request { return httptest.NewRequest("POST", wire.PathPlan, body) }
	begin := func(h http.Handler, body io.Reader) chan int {
		code := make(chan int, 1)
		go func() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, request(body))
			code <- w.Code
		}()
		return code
	}
	entered := func(whose string) {
		t.Helper()
		select {
		case <-b.entered:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s plan waits", whose)
		}
	}
	body, slow := io.Pipe()
	late := begin(s.mux, body)
	if _, err := slow.Write([]byte("{")); err != nil { // it is being read
		t.Fatal(err)
	}
	readers := begin(s.readers, strings.NewReader("{}"))
	entered("a reader's")
	all := begin(s.mux, strings.NewReader("{}"))
	entered("root's")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, h := range []http.Handler{s.mux, s.readers} {
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, request(strings.NewReader("{}")).WithContext(gone)); w.Code == http.StatusOK || len(b.entered) > 0 {
			t.Errorf("a second one was made beside the first: %d", w.Code)
		}
	}
	close(b.leave)
	slow.Write([]byte("}"))
	slow.Close()
	if got := []int{<-readers, <-all, <-late}; !slices.Equal(got, []int{200, 200, 200}) {
		t.Errorf("answers %v", got)
	}
}

// TestReadersPlanNoFiles: what readers send is not decoded.
func TestReadersPlanNoFiles(t *testing.T) {
	s, err := New(Options{Backend: &slowPlans{}}) // who asks it waits for ever
	if err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"small": 10, "large": maxBarePlan} {
		body, err := json.Marshal(wire.PlanRequest{Files: []v1alpha1.File{{Name: "a.yaml", Data: make([]byte, size)}}})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		if s.readers.ServeHTTP(w, httptest.NewRequest("POST", wire.PathPlan, bytes.NewReader(body))); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "other socket") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}
