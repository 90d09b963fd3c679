package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/forge"
	"tekton.host/pkg/forge/forgetest"
	"tekton.host/pkg/server"
)

// runMain has the test program be tekton-webhook.
const runMain = "TEKTON_TEST_WEBHOOK_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// backend is a daemon that has Repositories and no previews yet.
type backend struct {
	server.Backend // the rest is not asked for
	never          chan struct{}
	starting       atomic.Int32 // so many questions are not answered yet

	mu    sync.Mutex
	items []v1alpha1.Item
}

func (b *backend) List(context.Context) ([]v1alpha1.Item, error) {
	if b.starting.Add(-1) >= 0 {
		return nil, errors.New("the daemon is still reading the host")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.items), nil
}

func (b *backend) Changed() <-chan struct{} { return b.never }

// rig is a forge, a daemon and the files of a tekton-webhook.
type rig struct {
	t      *testing.T
	dir    string
	config string
	listen string
	forge  *forgetest.Server
	shop   forge.Repository
	cmd    *exec.Cmd
	log    *bytes.Buffer

	backend *backend
	url     string // of the forge
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "tkw") // short: a socket is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{t: t, dir: dir, config: filepath.Join(dir, "webhook.yaml"), forge: forgetest.New(), shop: forge.Repository{Owner: "team", Name: "shop"}, log: &bytes.Buffer{}}
	url, stop, err := r.forge.Serve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	r.url = url
	r.forge.AddRepository(r.shop)
	r.forge.AddToken("a-token", "tekton-bot")
	r.daemon(url + "/team/shop.git")
	for name, text := range map[string]string{"secret": "hush hush\n", "token": "a-token\n"} {
		r.write(name, text, 0o600)
	}
	for _, name := range []string{"specs", "state"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.listen = freeAddress(t)
	r.write("webhook.yaml", fmt.Sprintf(`listen: %s
specs: %s/specs
state: %s/state
socket: %s/d.sock
forges:
- name: github
  type: github
  url: %s
  secretFiles: [secret]
  tokenFile: token
`, r.listen, dir, dir, dir, url), 0o644)
	return r
}

func (r *rig) write(name, text string, mode os.FileMode) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), mode); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) daemon(repository string) {
	r.t.Helper()
	r.backend = &backend{never: make(chan struct{})}
	r.repository("shop", repository)
	s, err := server.New(server.Options{Backend: r.backend})
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := server.Listen(server.ListenOptions{Path: filepath.Join(r.dir, "d.sock")})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		s.Serve(ctx, l)
		close(done)
	}()
	r.t.Cleanup(func() {
		cancel()
		<-done
	})
}

// repository has the daemon have one more, or none of it without a url: it refuses it.
func (r *rig) repository(name, url string) {
	item := v1alpha1.Item{TypeMeta: v1alpha1.TypeMeta{Kind: v1alpha1.KindRepository}, Metadata: v1alpha1.ItemMeta{Name: name}}
	if url != "" {
		item.Spec = v1alpha1.RepositorySpec{URL: url}
	}
	r.backend.mu.Lock()
	defer r.backend.mu.Unlock()
	r.backend.items = append(r.backend.items, item)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// program is tekton-webhook as a process of its own.
func (r *rig) program(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], append([]string{"--config", r.config}, args...)...)
	cmd.Env = append(os.Environ(), runMain+"=1")
	return cmd
}

// start it, and wait until it answers.
func (r *rig) start() {
	r.t.Helper()
	r.cmd = r.program("--allow-root")
	r.cmd.Stderr = r.log
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	cmd := r.cmd
	r.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	r.until("it is healthy", func() bool {
		resp, err := http.Get("http://" + r.listen + "/healthz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.cmd.Process.Signal(syscall.SIGKILL)
			r.cmd.Wait()
			r.t.Fatalf("waited in vain until %s; it said:\n%s", what, r.log)
		}
	}
}

func (r *rig) specs() int {
	files, _ := filepath.Glob(filepath.Join(r.dir, "specs", "shop.*.yaml"))
	return len(files)
}

func (r *rig) comments() int {
	n := 0
	for _, pr := range r.forge.PullRequests(r.shop) {
		n += len(r.forge.Comments(r.shop, pr.Number))
	}
	return n
}

// TestKillLosesNothing: killed when it has answered 202 and looked at nothing
// yet, it looks at all of it when it comes back.
func TestKillLosesNothing(t *testing.T) {
	r := newRig(t)
	r.forge.AddHook(forgetest.Hook{URL: "http://" + r.listen + "/webhook/github", Secret: "hush hush"})
	// The list of pull requests is never answered: no sweep helps.
	noSweep := func(w http.ResponseWriter, q *http.Request) bool {
		if strings.HasSuffix(q.URL.Path, "/pulls") {
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
		return false
	}
	held := make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	defer release()
	r.forge.SetFault(func(w http.ResponseWriter, q *http.Request) bool {
		if !noSweep(w, q) {
			select {
			case <-held:
			case <-q.Context().Done():
			}
		}
		return true
	})
	r.start()
	const pulls = 20
	for n := range pulls {
		r.forge.Open(r.shop, forge.PullRequest{Base: "main", Branch: "b", Commit: fmt.Sprintf("%040x", n+1), Author: "ann"})
	}
	for i, d := range r.forge.Deliveries() {
		want := http.StatusAccepted
		if i == 0 {
			want = http.StatusOK // the ping
		}
		if status, err := d.Send(t.Context()); err != nil || status != want {
			t.Fatalf("delivery %d: %d %v, want %d", i, status, err, want)
		}
	}
	r.cmd.Process.Kill()
	r.cmd.Wait()
	if n := r.specs(); n != 0 {
		t.Fatalf("%d specs were written before the kill: this proves nothing", n)
	}
	release()
	r.forge.SetFault(noSweep)
	r.start()
	r.until("all specs are there", func() bool { return r.specs() == pulls })
	r.until("all pull requests were told", func() bool { return r.comments() == pulls })

	// Told to end, it ends well.
	r.cmd.Process.Signal(syscall.SIGTERM)
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("ended with %v:\n%s", err, r.log)
	}
	if n := r.comments(); n != pulls {
		t.Errorf("%d comments for %d pull requests", n, pulls)
	}
	for _, secret := range []string{"hush hush", "a-token"} {
		if strings.Contains(r.log.String(), secret) {
			t.Errorf("its log holds %q", secret)
		}
	}
}

// TestExitCodes: what systemd tells apart.
func TestExitCodes(t *testing.T) {
	r := newRig(t)
	run := func(want int, says string, args ...string) {
		t.Helper()
		var out bytes.Buffer
		cmd := r.program(args...)
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != want || !strings.Contains(out.String(), says) {
			t.Errorf("%v: %d, want %d and %q\n%s", args, code, want, says, out.String())
		}
	}
	run(0, "", "--check")
	run(0, "tekton-webhook version", "--version")
	run(78, "unknown flag", "--nonsense")
	if os.Geteuid() == 0 {
		run(78, "user of its own")
	}
	os.Remove(filepath.Join(r.dir, "token"))
	run(1, "token: no such file", "--check")
	run(1, "not within its unit", "--check")
	r.write("token", "", 0o600)
	run(1, "it is empty", "--check")
	r.write("webhook.yaml", "listen: 0.0.0.0:80\nsweep: 1s\nforges:\n- {name: GitHub, type: gitlab, secretFiles: [a, b, c], tokenFile: t}\n- {name: a, type: github, secretFiles: [a]}\n", 0o644)
	for _, says := range []string{
		`webhook.yaml:1:9: listen: "0.0.0.0:80" must be a loopback address`, `webhook.yaml:2:8: sweep: "1s" must be at least 10s`,
		`webhook.yaml:4:10: forges[0].name`, `forges[0].url`, `forges[0].secretFiles`, `webhook.yaml:5:3: forges[1]: is required: write tokenFile or app`,
	} {
		run(78, says, "--check")
	}
	r.write("webhook.yaml", "forge: []\n", 0o644)
	run(78, `webhook.yaml:1:1: forge: unknown field; did you mean "forges"?`)
}

// TestCheck: what is wrong with the setting-up is said before anything is delivered,
// all at once, with what to do.
func TestCheck(t *testing.T) {
	r := newRig(t)
	check := func(says ...string) {
		t.Helper()
		out, err := r.program("--check").CombinedOutput()
		if (err == nil) != (len(says) == 0) {
			t.Errorf("it ends with %v:\n%s", err, out)
		}
		for _, want := range says {
			if !strings.Contains(string(out), want) {
				t.Errorf("it does not say %q:\n%s", want, out)
			}
		}
	}
	r.forge.Open(r.shop, forge.PullRequest{Base: "main", Branch: "b", Commit: strings.Repeat("a", 40)})
	r.backend.starting.Store(2)
	check()
	r.repository("again", r.url+"/team/shop")
	r.repository("far", "https://git.example.org/team/shop.git")
	r.repository("refused", "")
	r.repository("typo", r.url+"/team/shpo.git")
	check("repository shop: it has the url of again, the first by name, which counts", "repository far: https://git.example.org/team/shop.git is of no forge",
		"repository refused: the daemon refuses it; tekton describe repository/refused", "repository typo: GET /repos/team/shpo/pulls: 404")
	r.backend.mu.Lock()
	r.backend.items = nil
	r.backend.mu.Unlock()
	r.repository("shop", r.url+"/team/shop.git")
	r.forge.SetFault(forgetest.Forbidden("pull_requests=read"))
	check("repository shop: GET /repos/team/shop/pulls: 403", `It needs "pull_requests=read"`)
	r.forge.SetFault(nil)
	r.write("token", "of nobody\n", 0o600)
	check("the forge's token is empty, or more than a line")
	r.write("token", "of-nobody\n", 0o600)
	check("repository shop: GET /repos/team/shop/pulls: 401", "still good?")

	config, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	write := func(old, new string) { r.write("webhook.yaml", strings.Replace(string(config), old, new, 1), 0o644) }
	write("/d.sock", "/other.sock")
	check("there is no socket " + r.dir + "/other.sock; with readSocketGroup in the Host")
	write("tokenFile: token", `app: {id: "1", keyFile: key}`)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	for key, says := range map[string]string{"": "it is empty", "secret": "it is not in PEM", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})): "it is no RSA key"} {
		r.write("key", key, 0o600)
		check(says, r.dir+"/key")
	}
}

// TestDirectoryOfAnother: what cannot be written is said at once, and not at the
// first pull request.
func TestDirectoryOfAnother(t *testing.T) {
	r := newRig(t)
	program := filepath.Join(r.dir, "program")
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	r.write("program", string(self), 0o755)
	for name, mode := range map[string]os.FileMode{"": 0o755, "specs": 0o555, "secret": 0o644, "token": 0o644, "state": 0o777} {
		if err := os.Chmod(filepath.Join(r.dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"--check"}, nil} {
		cmd := r.program(args...)
		cmd.Path = program
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "the directory "+r.dir+"/specs cannot be written by this user (permission denied); give it to") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// TestOneAtATime: two would write over each other.
func TestOneAtATime(t *testing.T) {
	r := newRig(t)
	r.start()
	out, err := r.program("--allow-root").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another tekton-webhook uses") {
		t.Errorf("%v: %s", err, out)
	}
}
