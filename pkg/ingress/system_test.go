package ingress

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/resource"
)

func TestCompose(t *testing.T) {
	const line = "import /s/current/*.caddy"
	file := "{\n\tadmin off\n}\n(common) {\n}\nimport conf.d/*.caddy\n" + "import   /s/current/*.caddy # ours\nweb.test {\n\timport common\n\timport parts/log \"x\"\n\timport {$WHERE}/x\n\timport nowhere\n}\n"
	there := func(path string) bool {
		return path == "/etc/c/conf.d/*.caddy" || path == "/etc/c/parts/log" || path == "/etc/c/common"
	}
	got, found := compose(file, "/etc/c", line, "OURS", there)
	want := "{\n\tadmin off\n}\n(common) {\n}\nimport /etc/c/conf.d/*.caddy\nOURS\nweb.test {\n\timport common\n\timport /etc/c/parts/log \"x\"\n\timport {$WHERE}/x\n\timport nowhere\n}\n"
	if !found || got != want {
		t.Errorf("found %v:\n%s", found, got)
	}
	for _, without := range []string{"", "# " + line, "import /s/current/other.caddy", line + "x"} {
		if _, found := compose(without, "/etc/c", line, "OURS", there); found {
			t.Errorf("%q counts as the line", without)
		}
	}
}

// operator is somebody with a Caddy of their own.
type operator struct {
	*rig
	dir     string
	program string
	caddy   *exec.Cmd
}

const operatorFile = `{
	admin localhost:2019
	http_port 8080
	https_port 8443
	local_certs
	skip_install_trust
	storage file_system DIR/storage
	grace_period 1s
}
(greeting) {
	respond "mine"
}
import conf.d/*
http://mine.test {
	import greeting
}
`

func newOperator(t *testing.T) *operator {
	r := newRig(t)
	o := &operator{rig: r, dir: filepath.Dir(r.opts.Layout.State), program: r.opts.Caddy}
	r.opts.System = &System{Caddyfile: filepath.Join(o.dir, "Caddyfile"), Network: "tcp", Admin: "localhost:2019"}
	r.restartDaemon()
	if err := os.Mkdir(filepath.Join(o.dir, "conf.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	o.put("conf.d/also", "http://also.test {\n\trespond \"also mine\"\n}\n")
	o.write(operatorFile + r.d.importLine() + "\n")
	o.start()
	t.Cleanup(o.stop)
	return o
}

func (o *operator) put(name, content string) {
	o.t.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), []byte(strings.ReplaceAll(content, "DIR", o.dir)), 0o644); err != nil {
		o.t.Fatal(err)
	}
}

func (o *operator) write(content string) { o.t.Helper(); o.put("Caddyfile", content) }

func (o *operator) start() {
	o.t.Helper()
	var said bytes.Buffer
	o.caddy = exec.Command(o.program, "run", "--config", filepath.Join(o.dir, "Caddyfile"), "--adapter", "caddyfile")
	o.caddy.Env = append(os.Environ(), "HOME="+o.dir, "XDG_CONFIG_HOME="+o.dir, "XDG_DATA_HOME="+o.dir)
	o.caddy.Dir, o.caddy.Stderr = "/", &said
	if err := o.caddy.Start(); err != nil {
		o.t.Fatal(err)
	}
	for range 200 {
		if config, err := o.d.admin.config(o.ctx()); err == nil && len(config) > 10 {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	o.t.Fatalf("the operator's Caddy does not start:\n%s", &said)
}

func (o *operator) stop() {
	if o.caddy != nil {
		o.caddy.Process.Kill()
		o.caddy.Wait()
		o.caddy = nil
	}
}

// reload is what systemctl reload caddy runs.
func (o *operator) reload() error {
	out, err := exec.Command(o.program, "reload", "--config", filepath.Join(o.dir, "Caddyfile"), "--adapter", "caddyfile", "--force").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (o *operator) config() string {
	o.t.Helper()
	config, err := o.d.admin.config(context.Background())
	if err != nil {
		o.t.Fatal(err)
	}
	return string(config)
}

func (o *operator) mine() {
	o.t.Helper()
	wantBody(o.t, "mine.test/", "mine")
	wantBody(o.t, "also.test/", "also mine")
}

// TestSystemCaddy: routes come and go in a Caddy that is not ours, over its
// reloads and restarts, and it is as before afterwards.
func TestSystemCaddy(t *testing.T) {
	o := newOperator(t)
	before := o.config()
	app := route("app.test", "/", backend(t, "app"))
	down := route("down.test", "/", nobody(t))
	secure := route("secure.test", "/", backend(t, "secure"), secured(resource.TLSInternal))
	all := []resource.Resource{o.proxy, app, down, secure}
	for _, r := range all {
		o.must(put(r))
	}
	served := func() {
		t.Helper()
		o.mine()
		wantBody(t, "app.test/x", "app /x host=app.test")
		if a := wantStatus(t, "down.test/", 503); !strings.Contains(a.body, "Container/down") || a.header.Get("Retry-After") == "" {
			t.Errorf("not our 503 page: %+v", a)
		}
		if a := wantStatus(t, "secure.test/y", 308); a.header.Get("Location") != "https://secure.test:8443/y" {
			t.Errorf("redirected to %q", a.header.Get("Location"))
		}
		if todo := o.pending(all...); len(todo) != 0 {
			t.Errorf("still to be done: %v", todo)
		}
	}
	served()
	config := o.config()
	if err := o.reload(); err != nil {
		t.Fatal(err)
	}
	if !sameJSON([]byte(config), []byte(o.config())) {
		t.Error("a reload by hand makes another configuration than ours")
	}
	served()
	o.stop()
	if todo := o.pending(all...); len(todo) != 4 {
		t.Errorf("with Caddy down only this is to be done: %v", todo)
	}
	for _, reason := range o.apply(put(o.proxy), put(app), del(down)) {
		if reason != reasonDown && reason != "" {
			t.Errorf("with Caddy down: %s", reason)
		}
	}
	o.start() // by itself it serves all that is wanted
	wantBody(t, "app.test/", "app")
	if a := get(t, "down.test/"); strings.Contains(a.body, "Container/down") {
		t.Errorf("a route that was deleted meanwhile is served: %+v", a)
	}
	o.must(put(down))
	o.restartDaemon()
	served()

	o.must(del(app))
	if a := get(t, "app.test/"); a.status == 200 && a.body != "" {
		t.Errorf("still served: %+v", a)
	}
	o.must(del(down), del(secure), del(o.proxy))
	o.mine()
	if !sameJSON([]byte(before), []byte(o.config())) {
		t.Errorf("before:\n%s\nafter:\n%s", before, o.config())
	}
	if _, err := os.Lstat(o.rig.dir()); err == nil {
		t.Error("files are left")
	}
	if todo := o.pending(); len(todo) != 0 {
		t.Errorf("still to be done: %v", todo)
	}
	if err := o.reload(); err != nil {
		t.Error("the line alone is too much: ", err)
	}
}

// TestSystemCaddyfile: what is wrong with the operator's file is said to be so,
// and what is wrong with ours goes.
func TestSystemCaddyfile(t *testing.T) {
	o := newOperator(t)
	line := o.d.importLine()
	app, other := route("app.test", "/", backend(t, "app")), route("other.test", "/", backend(t, "other"))

	o.write(operatorFile)
	if errs := o.d.Apply(o.ctx(), []resource.Step{put(o.proxy), put(app)}); resource.Reason(errs[1], "") != reasonImport || !strings.Contains(errs[0].Error(), line) {
		t.Errorf("without the line: %v", errs)
	}
	o.write(operatorFile + line + "\n") // no reload by hand is needed
	o.must(put(o.proxy), put(app))
	wantBody(t, "app.test/", "app")

	// The line goes, and the file is loaded: nothing of ours is served, which is seen.
	o.write(operatorFile)
	if err := o.reload(); err != nil {
		t.Fatal(err)
	}
	if todo := o.pending(o.proxy, app); len(todo) != 2 {
		t.Errorf("without the line only this is to be done: %v", todo)
	}
	if reasons := o.apply(put(o.proxy), put(app)); reasons[0] != reasonImport || reasons[1] != reasonImport {
		t.Errorf("without the line again: %v", reasons)
	}
	o.write(operatorFile + line + "\n")
	o.must(put(o.proxy), put(app))

	// A broken file is not our fault, and takes nothing away.
	o.write(operatorFile + line + "\nhttp://half.test {\n")
	if todo := o.pending(o.proxy, app); len(todo) != 1 {
		t.Errorf("with a broken file: %v", todo)
	}
	if reasons := o.apply(put(o.proxy), put(other)); reasons[0] != reasonCaddyfile || reasons[1] != reasonCaddyfile {
		t.Errorf("with a broken file: %v", reasons)
	}
	o.mine()
	wantBody(t, "app.test/", "app")
	o.write(operatorFile + line + "\nhttp://half.test {\n\trespond whole\n}\n")
	o.must(put(o.proxy), put(other))
	wantBody(t, "half.test/", "whole")

	// The operator defines a host of ours: ours goes, or reloads by hand would be refused.
	o.write(operatorFile + line + "\nhttp://app.test {\n\trespond \"the operator's\"\n}\n")
	if todo := o.pending(o.proxy, app, other); len(todo) != 3 {
		t.Errorf("with a host defined twice: %v", todo)
	}
	if reasons := o.apply(put(o.proxy), put(app), put(other)); reasons[0] != "" || reasons[1] != reasonConflict || reasons[2] != "" {
		t.Errorf("with a host defined twice: %v", reasons)
	}
	wantBody(t, "app.test/", "the operator's")
	wantBody(t, "other.test/", "other")
	if err := o.reload(); err != nil {
		t.Error(err)
	}
	if todo := o.pending(o.proxy, other); len(todo) != 0 {
		t.Errorf("the rest is not converged: %v", todo)
	}

	// An import that is not understood is told, not guessed.
	o.put("more", "(hidden) {\n\trespond hidden\n}\n")
	o.put("hidden", "respond wrong\n")
	o.write("import " + o.dir + "/more\n" + operatorFile + line + "\nhttp://h.test {\n\timport hidden\n}\n")
	o.apply(put(o.proxy), put(route("new.test", "/", netip.MustParseAddrPort("127.0.0.1:9"))))
	o.mine()
	wantBody(t, "other.test/", "other")
}

// TestLeaveAndEnterSystem changes from our own Caddy to the host's and back.
func TestLeaveAndEnterSystem(t *testing.T) {
	o := newOperator(t)
	o.stop()
	system := o.opts.System
	o.opts.System = nil
	o.restartDaemon()
	app := route("app.test", "/", backend(t, "app"))
	o.must(put(o.proxy))
	o.must(put(app))
	wantBody(t, "app.test/", "app")

	o.opts.System = system
	o.restartDaemon()
	if todo := o.pending(o.proxy, app); len(todo) == 0 {
		t.Error("nothing is to be done")
	}
	if reasons := o.apply(put(o.proxy), put(app)); reasons[0] != reasonDown {
		t.Errorf("without a Caddy of the host's: %v", reasons)
	}
	o.start() // the ports are free
	o.must(put(o.proxy), put(app))
	if s, _, err := o.manager.Status(o.rig.dir()); err != nil || s.Running {
		t.Errorf("the managed Caddy runs on: %+v %v", s, err)
	}
	o.mine()
	wantBody(t, "app.test/", "app")
	if todo := o.pending(o.proxy, app); len(todo) != 0 {
		t.Errorf("still to be done: %v", todo)
	}
	o.stop()
	o.opts.System = nil
	o.restartDaemon()
	o.must(put(o.proxy), put(app))
	wantBody(t, "app.test/", "app")
	o.stop()
}

// TestSystemSocket: the admin endpoint may be a socket.
func TestSystemSocket(t *testing.T) {
	o := newOperator(t)
	o.stop()
	o.opts.System = &System{Caddyfile: o.opts.System.Caddyfile, Network: "unix", Admin: filepath.Join(o.dir, "admin.sock")}
	o.restartDaemon()
	o.write(strings.Replace(operatorFile, "admin localhost:2019", "admin unix/DIR/admin.sock", 1) + o.d.importLine() + "\n")
	o.start()
	web := route("web.test", "/", backend(t, "web"))
	o.must(put(o.proxy), put(web))
	o.mine()
	wantBody(t, "web.test/", "web")
	if err := o.reload(); err != nil {
		t.Error(err)
	}
	o.must(del(web), del(o.proxy))
	if _, err := os.Stat(o.opts.System.Admin); err != nil {
		t.Error("the operator's socket: ", err)
	}
}

// TestSystemRefused: what Caddy cannot load together with the operator's file
// stays out of what it imports.
func TestSystemRefused(t *testing.T) {
	o := newOperator(t)
	good, pool := newCertificate(t, t.TempDir(), "good", "*.good.test")
	bad, _ := newCertificate(t, t.TempDir(), "bad", "*.bad.test")
	o.setCertificates(good, bad)
	web := route("web.test", "/", backend(t, "web"))
	o.must(put(o.proxy), put(web))
	for _, c := range o.d.cached.Certificates {
		if c.Want.Cert == bad.Cert {
			if err := os.Remove(c.Key); err != nil { // which shows when it is loaded
				t.Fatal(err)
			}
		}
	}
	x := route("x.good.test", "/", backend(t, "x"), secured(resource.TLSFiles))
	y := route("y.bad.test", "/", backend(t, "y"), secured(resource.TLSFiles))
	if reasons := o.apply(put(x), put(y)); reasons[0] != "" || reasons[1] != reasonRefused {
		t.Errorf("reasons %q", reasons)
	}
	for range 2 {
		o.mine()
		wantBody(t, "web.test/", "web")
		wantSecure(t, pool, "x.good.test/", "x")
		if todo := o.pending(o.proxy, web, x, y); len(todo) != 1 {
			t.Errorf("only this is to be done: %v", todo)
		}
		if err := o.reload(); err != nil {
			t.Errorf("a reload by hand: %v", err)
		}
	}
}
