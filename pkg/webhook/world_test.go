package webhook

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/forge"
	"tekton.host/pkg/spec"
)

const secret = "a secret that is long enough"

// world is a forge, a daemon and a server between them. The forge's API over
// HTTP and the daemon's over its socket have tests of their own.
type world struct {
	t       testing.TB
	specs   string
	state   string
	forge   *fakeForge
	client  forge.Client // of the server: the forge, or several by repository
	max     int          // of the host
	daemon  *fakeDaemon
	teller  *fakeTeller
	server  *Server
	handler http.Handler
	stop    func()
	ids     int
}

func newWorld(t testing.TB, repositories map[string]v1alpha1.RepositorySpec) *world {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, specs: filepath.Join(dir, "specs"), state: filepath.Join(dir, "state"), forge: newFakeForge(), teller: &fakeTeller{told: map[int]Outcome{}}}
	if err := os.Mkdir(w.specs, 0o755); err != nil {
		t.Fatal(err)
	}
	w.client = w.forge
	w.daemon = newFakeDaemon(w.specs, repositories)
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *world) start() {
	w.t.Helper()
	s, err := New(Options{
		Specs: w.specs, State: w.state, Daemon: w.daemon, Teller: w.teller, Max: w.max, Sweep: time.Hour,
		Forges: []Forge{{Name: "github", URL: "https://github.com", Client: w.client, Secrets: func() ([][]byte, error) {
			return [][]byte{[]byte("the one before"), []byte(secret)}, nil
		}}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	s.watcher.again = time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		s.Run(ctx)
		close(done)
	}()
	w.server, w.handler = s, s.Handler()
	w.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		s.Close()
	})
}

func (w *world) restart() {
	w.stop()
	w.start()
}

// deliver an event; the answer's status.
func (w *world) deliver(id, event, body string) int {
	w.t.Helper()
	r := httptest.NewRequest("POST", "/webhook/github", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-GitHub-Event", event)
	r.Header.Set("X-GitHub-Delivery", id)
	r.Header.Set("X-Hub-Signature-256", sign(body))
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	return answer.Code
}

func sign(body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

func pullBody(n int) string {
	return fmt.Sprintf(`{"action":"synchronize","number":%d,"repository":{"full_name":"team/shop"}}`, n)
}

// event tells of a pull request.
func (w *world) event(n int) {
	w.t.Helper()
	w.ids++
	if code := w.deliver(fmt.Sprintf("id-%d", w.ids), "pull_request", pullBody(n)); code != 202 {
		w.t.Fatalf("a delivery was answered with %d", code)
	}
}

// settle waits until nobody is at work; what failed waits for its retry.
func (w *world) settle() {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for calm := 0; calm < 3; {
		if busy(w.server.looks) || busy(w.server.tells) || len(w.server.sweeps) > 0 || !w.daemon.seen(w.server) {
			calm = 0
		} else {
			calm++
		}
		if time.Now().After(deadline) {
			w.t.Fatal("it does not come to rest")
		}
		time.Sleep(time.Millisecond)
	}
}

func busy(w *work) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, it := range w.items {
		if it.queued || it.running {
			return true
		}
	}
	return false
}

// sweep looks at everything, as now and then happens.
func (w *world) sweep() {
	w.t.Helper()
	w.settle()
	if err := w.server.sweep(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.settle()
}

// previews are the specs that the daemon would read, by number.
func (w *world) previews() map[int]v1alpha1.Preview {
	w.t.Helper()
	out := map[int]v1alpha1.Preview{}
	for file, p := range w.daemon.read() {
		if r, ok := w.server.store.Ref(file); ok && p != nil {
			out[r.Number] = *p
		}
	}
	return out
}

func (w *world) numbers() string { return fmt.Sprint(slices.Sorted(maps.Keys(w.previews()))) }

// fakeForge is the truth.
type fakeForge struct {
	mu       sync.Mutex
	pulls    map[int]*forge.PullRequest
	comments map[int][]forge.Comment
	writers  map[string]bool
	slow     map[int]chan struct{} // pull requests that are not answered until then
	err      error
	odd      error         // of a list
	broken   map[int]error // pull requests that are answered with it
	secret   error         // who may write is answered with it
	asked    int
	listed   []time.Time
}

func newFakeForge() *fakeForge {
	return &fakeForge{pulls: map[int]*forge.PullRequest{}, comments: map[int][]forge.Comment{}, writers: map[string]bool{"ann": true}}
}

func (f *fakeForge) change(n int, change func(*forge.PullRequest)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pulls[n] == nil {
		f.pulls[n] = &forge.PullRequest{Number: n, Open: true, Base: "main", Branch: "b", Commit: commitA}
	}
	change(f.pulls[n])
}

func (f *fakeForge) open(n int) { f.change(n, func(pr *forge.PullRequest) { pr.Open = true }) }

func (f *fakeForge) shut(n int) { f.change(n, func(pr *forge.PullRequest) { pr.Open = false }) }

func (f *fakeForge) say(n int, author, body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := int64(len(f.comments[n]) + 1)
	f.comments[n] = append(f.comments[n], forge.Comment{ID: id, Author: author, Body: body, Created: time.Unix(id, 0)})
}

// reword the last comment.
func (f *fakeForge) reword(n int, body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if all := slices.Clone(f.comments[n]); len(all) > 0 {
		all[len(all)-1].Body = body
		f.comments[n] = all
	}
}

// unsay deletes the first comment.
func (f *fakeForge) unsay(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if all := f.comments[n]; len(all) > 0 {
		f.comments[n] = all[1:]
	}
}

func (f *fakeForge) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// spoil lets all looks at a pull request fail; nil: no more.
func (f *fakeForge) spoil(n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = map[int]error{n: err}
}

func (f *fakeForge) PullRequest(_ context.Context, _ forge.Repository, n int) (forge.PullRequest, error) {
	f.mu.Lock()
	if wait := f.slow[n]; wait != nil {
		f.mu.Unlock()
		<-wait
		f.mu.Lock()
	}
	defer f.mu.Unlock()
	f.asked++
	if f.err != nil {
		return forge.PullRequest{}, f.err
	}
	if f.broken[n] != nil {
		return forge.PullRequest{}, f.broken[n]
	}
	if f.pulls[n] == nil {
		return forge.PullRequest{}, forge.ErrNotFound
	}
	return *f.pulls[n], nil
}

func (f *fakeForge) OpenPullRequests(context.Context, forge.Repository) ([]forge.PullRequest, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listed = append(f.listed, time.Now())
	var out []forge.PullRequest
	for _, n := range slices.Sorted(maps.Keys(f.pulls)) {
		if f.pulls[n].Open {
			out = append(out, *f.pulls[n])
		}
	}
	return out, cmp.Or(f.err, f.odd)
}

func (f *fakeForge) Comments(_ context.Context, _ forge.Repository, n int) ([]forge.Comment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.comments[n]), f.err
}

func (f *fakeForge) MayWrite(_ context.Context, _ forge.Repository, user string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writers[user], cmp.Or(f.err, f.secret)
}

func (f *fakeForge) SetComment(context.Context, forge.Repository, int, int64, string) (int64, error) {
	return 0, errors.New("the teller of these tests writes none")
}

func (f *fakeForge) SetDeployment(context.Context, forge.Repository, forge.Deployment) error {
	return errors.New("the teller of these tests writes none")
}

// wanted is what the truth asks for.
func (f *fakeForge) wanted(p v1alpha1.PullRequestPolicy) map[int]Verdict {
	out := map[int]Verdict{}
	for n, pr := range f.pulls {
		commands := slices.DeleteFunc(Commands(f.comments[n]), func(c Command) bool { return !f.writers[c.Author] })
		if v := Decide(p, *pr, commands); v.Shown() {
			out[n] = v
		}
	}
	return out
}

// fakeTeller remembers what was told.
type fakeTeller struct {
	mu    sync.Mutex
	told  map[int]Outcome
	times int
	err   error
}

func (f *fakeTeller) Text(o Outcome) string {
	phase := v1alpha1.Phase("none")
	if o.Item != nil {
		phase = o.Item.Status.Phase
	}
	return fmt.Sprint(o.State, o.Message, o.Commit, o.Preview, phase)
}

func (f *fakeTeller) Tell(_ context.Context, _ forge.Client, k Key, o Outcome) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	f.told[k.Number] = o
	f.times++
	return nil
}

func (f *fakeTeller) Told() ([]Key, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var keys []Key
	for n, o := range f.told {
		if o.State != StateClosed {
			keys = append(keys, Key{Forge: "github", Repository: forge.Repository{Owner: "team", Name: "shop"}, Number: n})
		}
	}
	return keys, nil
}

func (f *fakeTeller) state(n int) State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.told[n].State
}

var previewHost = func() *v1alpha1.Host {
	h := v1alpha1.DefaultHost()
	h.Spec.Previews.Domain = "preview.example.org"
	return h
}()

// fakeDaemon reads the specs when it is told to, and shows what it has.
type fakeDaemon struct {
	specs string

	mu      sync.Mutex
	items   map[string]v1alpha1.Item // by kind and name
	version int
	changed chan struct{}
	away    bool
	// lost are files that vanished with their documents in them: mistakes.
	lost   []string
	synced []string
}

func newFakeDaemon(specs string, repositories map[string]v1alpha1.RepositorySpec) *fakeDaemon {
	d := &fakeDaemon{specs: specs, items: map[string]v1alpha1.Item{}, changed: make(chan struct{})}
	for name, spec := range repositories {
		d.repository(name, spec)
	}
	return d
}

func (d *fakeDaemon) put(kind, name, file string, spec any) {
	d.items[kind+"/"+name] = v1alpha1.Item{
		TypeMeta: v1alpha1.TypeMeta{Kind: kind}, Spec: spec, Status: v1alpha1.Status{Phase: v1alpha1.PhaseReady},
		Metadata: v1alpha1.ItemMeta{Name: name, Source: v1alpha1.SourcePosition{Name: "previews", File: file}},
	}
}

func (d *fakeDaemon) repository(name string, spec v1alpha1.RepositorySpec) {
	d.update(func() { d.put(v1alpha1.KindRepository, name, "/specs/repositories.yaml", spec) })
}

func (d *fakeDaemon) update(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
	d.version++
	close(d.changed)
	d.changed = make(chan struct{})
}

// read the specs: nil is a file without a document.
func (d *fakeDaemon) read() map[string]*v1alpha1.Preview {
	out := map[string]*v1alpha1.Preview{}
	files, _ := filepath.Glob(filepath.Join(d.specs, "*.yaml"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		objects, problems := spec.Decode(file, text, spec.Options{Host: &previewHost.Spec})
		if len(problems) > 0 || len(objects) > 1 {
			panic(fmt.Sprint(problems, len(objects)))
		}
		out[file] = nil
		for _, o := range objects {
			out[file] = o.Object.(*v1alpha1.Preview)
		}
	}
	return out
}

// look reads the specs, as the daemon does: what is not said to be removed stays.
func (d *fakeDaemon) look() {
	d.update(func() {
		files := d.read()
		for key, item := range d.items {
			if item.Kind != v1alpha1.KindPreview {
				continue
			}
			switch p, there := files[item.Metadata.Source.File]; {
			case !there:
				d.lost = append(d.lost, item.Metadata.Source.File)
			case p == nil:
				delete(d.items, key)
			}
		}
		for file, p := range files {
			if p != nil {
				d.put(v1alpha1.KindPreview, p.Metadata.Name, file, p.Spec)
			}
		}
	})
}

// fade begins to remove a preview as a ttl does: the document first, the object is
// shown until all that it had is gone.
func (d *fakeDaemon) fade(file string) {
	d.update(func() {
		os.Remove(file)
		for key, item := range d.items {
			if item.Metadata.Source.File == file {
				item.Status.Phase = v1alpha1.PhaseDeleting
				d.items[key] = item
			}
		}
	})
}

// destroy ends that: document and object are gone.
func (d *fakeDaemon) destroy(file string) {
	d.update(func() {
		os.Remove(file)
		maps.DeleteFunc(d.items, func(_ string, i v1alpha1.Item) bool { return i.Metadata.Source.File == file })
	})
}

// seen reports whether the server's view is what the daemon has.
func (d *fakeDaemon) seen(s *Server) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	view := s.watcher.View()
	if d.away {
		return !view.Known
	}
	return view.Known && len(view.Previews)+len(view.Repositories) == len(d.items)
}

func (d *fakeDaemon) goAway(away bool) { d.update(func() { d.away = away }) }

func (d *fakeDaemon) Watch(ctx context.Context) iter.Seq2[v1alpha1.WatchEvent, error] {
	return func(yield func(v1alpha1.WatchEvent, error) bool) {
		known := map[string]v1alpha1.Item{}
		for first := true; ; first = false {
			d.mu.Lock()
			items, changed, away := maps.Clone(d.items), d.changed, d.away
			d.mu.Unlock()
			if away {
				yield(v1alpha1.WatchEvent{}, errors.New("the daemon is away"))
				return
			}
			for key, item := range items {
				if !yield(v1alpha1.WatchEvent{Type: v1alpha1.WatchPut, Item: &item}, nil) {
					return
				}
				known[key] = item
			}
			for key, item := range known {
				if _, has := items[key]; !has {
					delete(known, key)
					if !yield(v1alpha1.WatchEvent{Type: v1alpha1.WatchDelete, Item: &item}, nil) {
						return
					}
				}
			}
			if first && !yield(v1alpha1.WatchEvent{Type: v1alpha1.WatchSynced}, nil) {
				return
			}
			select {
			case <-ctx.Done():
				yield(v1alpha1.WatchEvent{}, ctx.Err())
				return
			case <-changed:
			}
		}
	}
}

func (d *fakeDaemon) Sources(context.Context) ([]v1alpha1.SourceStatus, error) {
	return []v1alpha1.SourceStatus{
		{Name: "previews", Path: d.specs},
		{Name: "infra", Git: &v1alpha1.GitStatus{URL: "ssh://git@github.com/team/infra.git", Branch: "main"}},
		{Name: "infra-next", Git: &v1alpha1.GitStatus{URL: "https://github.com/Team/infra", Branch: "next"}},
	}, nil
}

func (d *fakeDaemon) SyncSource(_ context.Context, name string) (v1alpha1.GitStatus, error) {
	d.update(func() { d.synced = append(d.synced, name) })
	return v1alpha1.GitStatus{}, nil
}
