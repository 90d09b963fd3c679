package notify

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"

	"tekton.host/pkg/api/v1alpha1"
)

var epoch = time.Unix(1_700_000_000, 0).UTC()

func item(name string, ready v1alpha1.ConditionStatus, since time.Time) v1alpha1.Item {
	phase := v1alpha1.PhaseReady
	if ready != v1alpha1.ConditionTrue {
		phase = v1alpha1.PhaseFailed
	}
	return v1alpha1.Item{
		TypeMeta: v1alpha1.TypeMeta{Kind: v1alpha1.KindContainer}, Metadata: v1alpha1.ItemMeta{Name: name, UID: "uid-" + name},
		Status: v1alpha1.Status{Phase: phase, Conditions: []v1alpha1.Condition{{Type: v1alpha1.ConditionReady, Status: ready, Reason: "R", LastTransitionTime: since}}},
	}
}

func TestDue(t *testing.T) {
	const yes, no, unknown = v1alpha1.ConditionTrue, v1alpha1.ConditionFalse, v1alpha1.ConditionUnknown
	phase := func(i v1alpha1.Item, p v1alpha1.Phase) v1alpha1.Item { i.Status.Phase = p; return i }
	nameless := item("web", no, epoch.Add(-time.Hour))
	nameless.Metadata.UID = ""
	old := epoch.Add(-time.Hour)
	for name, c := range map[string]struct {
		heard map[string]bool
		item  v1alpha1.Item
		told  bool
		next  time.Time
	}{
		"new and Ready":         {nil, item("web", yes, epoch), true, time.Time{}},
		"Ready as before":       {map[string]bool{"uid-web": true}, item("web", yes, epoch), false, time.Time{}},
		"Ready again":           {map[string]bool{"uid-web": false}, item("web", yes, epoch), true, time.Time{}},
		"not Ready for a while": {map[string]bool{"uid-web": true}, item("web", no, old), true, time.Time{}},
		"not Ready just now":    {map[string]bool{"uid-web": true}, item("web", no, epoch.Add(-10*time.Second)), false, epoch.Add(20 * time.Second)},
		"never Ready":           {nil, item("web", no, old), true, time.Time{}},
		"told already":          {map[string]bool{"uid-web": false}, item("web", no, old), false, time.Time{}},
		"clock set back":        {map[string]bool{"uid-web": true}, item("web", no, epoch.Add(time.Hour)), true, time.Time{}},
		"not known":             {map[string]bool{"uid-web": true}, item("web", unknown, old), false, time.Time{}},
		"disabled":              {map[string]bool{"uid-web": true}, phase(item("web", no, old), v1alpha1.PhaseDisabled), false, time.Time{}},
		"paused":                {map[string]bool{"uid-web": true}, phase(item("web", no, old), v1alpha1.PhasePaused), false, time.Time{}},
		"goes":                  {map[string]bool{"uid-web": true}, phase(item("web", no, old), v1alpha1.PhaseDeleting), false, time.Time{}},
		"a spec without object": {nil, nameless, false, time.Time{}},
	} {
		notices, next := due(c.heard, []v1alpha1.Item{c.item}, "h", 30*time.Second, epoch)
		if len(notices) > 0 != c.told || !next.Equal(c.next) {
			t.Errorf("%s: %d notices, next at %v", name, len(notices), next)
		}
	}
}

// world is what a hook sees, and what it was told.
type world struct {
	mu      sync.Mutex
	items   []v1alpha1.Item
	changed chan struct{}
	told    []string
	refuse  bool
	refuses map[string]bool // notices of these objects alone
	asked   int
}

func (w *world) set(items ...v1alpha1.Item) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.items = items
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) hook(dir string) *hook {
	return &hook{
		refused: map[string]int{}, config: v1alpha1.Notification{Name: "x", After: &v1alpha1.Duration{Duration: 30 * time.Second}}, file: filepath.Join(dir, "x.json"),
		Options: Options{
			Host: "h", Log: logr.Discard(),
			Items:   func() ([]v1alpha1.Item, bool) { w.mu.Lock(); defer w.mu.Unlock(); return w.items, w.items != nil },
			Changed: func() <-chan struct{} { w.mu.Lock(); defer w.mu.Unlock(); return w.changed },
		},
		send: func(_ context.Context, n Notice) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.asked++
			if w.refuse || w.refuses[n.Object.Name] {
				return io.ErrUnexpectedEOF
			}
			w.told = append(w.told, n.Object.Name+map[bool]string{true: "+", false: "-"}[n.Ready])
			return nil
		},
	}
}

func (w *world) expect(t *testing.T, what string, want ...string) {
	t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.told, want) {
		t.Fatalf("%s: told %v, want %v", what, w.told, want)
	}
}

// TestHook goes through the life of a hook: silent at first, one notice a turn,
// none for what turns back, retries, and a restart of the daemon in between.
func TestHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := &world{changed: make(chan struct{})}
		yes := func(name string) v1alpha1.Item { return item(name, v1alpha1.ConditionTrue, time.Now()) }
		no := func(name string) v1alpha1.Item { return item(name, v1alpha1.ConditionFalse, time.Now()) }
		run := func() (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { w.hook(dir).run(ctx) })
			return func() { cancel(); wg.Wait() }
		}
		stop := run()
		w.expect(t, "nothing was read yet")
		w.set(yes("web"), no("api"))
		w.expect(t, "what a new hook finds is no news")
		w.set(yes("web"), yes("api"))
		w.expect(t, "api has turned", "api+")
		w.set(no("web"), yes("api"))
		time.Sleep(20 * time.Second)
		w.set(yes("web"), yes("api"))
		time.Sleep(time.Hour)
		w.expect(t, "web was away for an update", "api+")
		w.set(no("web"), yes("api"))
		time.Sleep(31 * time.Second)
		w.expect(t, "web is away for long", "api+", "web-")
		stop()
		stop = run()
		w.expect(t, "the daemon was restarted", "api+", "web-")
		w.mu.Lock()
		w.refuse = true
		w.mu.Unlock()
		w.set(yes("web"), yes("api"), yes("new"))
		time.Sleep(4 * time.Minute)
		w.expect(t, "the hook refuses", "api+", "web-")
		stop()
		w.mu.Lock()
		w.refuse = false
		w.mu.Unlock()
		stop = run()
		w.expect(t, "the hook is there again, and another daemon", "api+", "web-", "new+", "web+")
		w.set(yes("new"))
		synctest.Wait()
		w.set(yes("new"), yes("web"))
		w.expect(t, "web went and came", "api+", "web-", "new+", "web+", "web+")
		stop()
	})
}

// TestRefused: a receiver that refuses some notices is told all others; one that
// refuses all is not asked for each of them at a time.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{changed: make(chan struct{}), refuses: map[string]bool{"a": true, "b": true, "c": true, "d": true}}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { w.hook(t.TempDir()).run(ctx) })
		defer wg.Wait()
		defer cancel()
		w.set(item("old", v1alpha1.ConditionTrue, time.Now()))
		synctest.Wait()
		var items []v1alpha1.Item
		for _, name := range []string{"old", "a", "b", "c", "d", "web"} {
			items = append(items, item(name, v1alpha1.ConditionTrue, time.Now()))
		}
		w.set(items...)
		synctest.Wait()
		if w.asked != maxRefused {
			t.Errorf("asked %d times at once", w.asked)
		}
		time.Sleep(time.Minute)
		w.expect(t, "web is behind those that are refused", "web+")
		time.Sleep(time.Hour)
		w.set(append(items, item("new", v1alpha1.ConditionTrue, time.Now()))...)
		time.Sleep(retryMost + time.Second)
		w.expect(t, "also what comes later is told", "web+", "new+")
		w.mu.Lock()
		w.refuses = nil
		w.mu.Unlock()
		time.Sleep(retryMost)
		w.mu.Lock()
		defer w.mu.Unlock()
		if slices.Sort(w.told); !slices.Equal(w.told, []string{"a+", "b+", "c+", "d+", "new+", "web+"}) {
			t.Errorf("in the end it was told %v", w.told)
		}
	})
}

func notice() Notice {
	return Notice{Host: "h", Object: v1alpha1.Ref{Kind: v1alpha1.KindContainer, Name: "web"}, Reason: "R", Message: "because", Since: epoch}
}

func TestPost(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got Notice
	var header http.Header
	status := http.StatusNoContent
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header = r.Header
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
		io.WriteString(w, "the path is s3cret")
	}))
	defer receiver.Close()
	send, err := sender(v1alpha1.Notification{Name: "x", URL: receiver.URL + "/hidden-path", TokenFile: token})
	if err != nil {
		t.Fatal(err)
	}
	if err := send(t.Context(), notice()); err != nil {
		t.Fatal(err)
	}
	if got.Object.Name != "web" || got.Message != "because" || header.Get("Authorization") != "Bearer s3cret" || header.Get("Content-Type") != "application/json" {
		t.Errorf("the receiver got %+v with %v", got, header)
	}
	status = http.StatusInternalServerError
	err = send(t.Context(), notice())
	receiver.Close()
	gone := send(t.Context(), notice())
	for _, err := range []error{err, gone} {
		if err == nil || strings.Contains(err.Error(), "hidden-path") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("a receiver that fails: %v; an error tells neither path nor answer", err)
		}
	}
}

// TestRedirect: a receiver that leads elsewhere has not heard, and is told of.
func TestRedirect(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/old" {
			http.Redirect(w, r, "/new", http.StatusFound)
		}
	}))
	defer receiver.Close()
	send, err := sender(v1alpha1.Notification{Name: "x", URL: receiver.URL + "/old"})
	if err != nil {
		t.Fatal(err)
	}
	if err := send(t.Context(), notice()); err == nil || !strings.Contains(err.Error(), "302 Found") {
		t.Errorf("a notice that was led elsewhere: %v", err)
	}
}

func TestCommand(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	name := me.Username
	if os.Geteuid() == 0 {
		name = "nobody"
	}
	dir := t.TempDir()
	for p := dir; p != "/" && p != os.TempDir(); p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "out")
	send, err := sender(v1alpha1.Notification{Name: "x", User: name, Command: []string{"sh", "-c", "cat >'" + out + "'; id -un >>'" + out + "'"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := send(t.Context(), notice()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	line, who, _ := strings.Cut(string(data), "\n")
	var got Notice
	if err := json.Unmarshal([]byte(line), &got); err != nil || got.Object.Name != "web" || strings.TrimSpace(who) != name {
		t.Errorf("the command got %q as %q: %v", line, who, err)
	}
	send, err = sender(v1alpha1.Notification{Name: "x", User: name, Command: []string{"sh", "-c", "echo no such channel >&2; exit 3"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := send(t.Context(), notice()); err == nil || !strings.Contains(err.Error(), "no such channel") {
		t.Errorf("a command that fails: %v", err)
	}
}

// TestRun: a hook that cannot be set up is an error of the daemon's start, and
// failures are logged by the hook's name.
func TestRun(t *testing.T) {
	if err := Run(t.Context(), Options{Hooks: []v1alpha1.Notification{{Name: "x", User: "no-such-user", Command: []string{"true"}}}}); err == nil {
		t.Error("a command of an unknown user is accepted")
	}
	var mu sync.Mutex
	var logged strings.Builder
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer receiver.Close()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "chat.json"), []byte(`{"uid-web":false}`), 0o600); err != nil {
		t.Fatal(err)
	}
	err := Run(ctx, Options{
		Hooks: []v1alpha1.Notification{{Name: "chat", URL: receiver.URL, After: &v1alpha1.Duration{}}}, Dir: dir,
		Items: func() ([]v1alpha1.Item, bool) {
			return []v1alpha1.Item{item("web", v1alpha1.ConditionTrue, epoch)}, true
		},
		Changed: func() <-chan struct{} { return nil },
		Log: funcr.New(func(_, args string) {
			mu.Lock()
			defer mu.Unlock()
			logged.WriteString(args)
			cancel()
		}, funcr.Options{}),
	})
	mu.Lock()
	defer mu.Unlock()
	if err != nil || !strings.Contains(logged.String(), "chat") || !strings.Contains(logged.String(), "418") {
		t.Errorf("%v; logged: %s", err, logged.String())
	}
}
