package ingress

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/resource"
)

func TestContract(t *testing.T) {
	r := newRig(t)
	web, api := route("web.example.org", "/", backend(t, "web")), route("web.example.org", "/api", backend(t, "api"))
	want := func(when string, todo []string, desired ...resource.Resource) {
		t.Helper()
		if d := cmp.Diff(todo, r.pending(desired...)); d != "" {
			t.Fatalf("%s: pending (-want +got):\n%s", when, d)
		}
	}
	want("before", []string{"put proxy/caddy", "put route/web.example.org/"}, r.proxy, web)
	if _, err := os.Stat(r.opts.Layout.State); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("observing made %s: %v", r.opts.Layout.State, err)
	}
	if d := cmp.Diff([]string{reasonDown}, r.apply(put(web))); d != "" {
		t.Errorf("a route before the proxy (-want +got):\n%s", d)
	}
	r.must(put(r.proxy), put(web))
	pid := r.pid()
	want("after create", nil, r.proxy, web)
	wantBody(t, "web.example.org/", "web /")

	generation := r.current()
	r.must(put(r.proxy), put(web))
	if got := r.current(); got != generation {
		t.Errorf("putting the same made %s of %s", got, generation)
	}
	r.restartDaemon()
	want("adopted by a new daemon", nil, r.proxy, web)
	if got := r.current(); got != generation || r.pid() != pid {
		t.Errorf("adoption changed something: %s of %s", got, generation)
	}

	moved := route("web.example.org", "/", backend(t, "moved"))
	r.must(put(moved), put(api))
	wantBody(t, "web.example.org/", "moved /")
	wantBody(t, "web.example.org/api", "api /api")
	want("after change", nil, r.proxy, moved, api)

	r.must(del(api))
	r.must(del(api)) // already gone
	wantBody(t, "web.example.org/api", "moved /api")
	want("after delete", nil, r.proxy, moved)
	if r.pid() != pid {
		t.Error("Caddy was started anew for a change of routes")
	}

	r.must(del(moved), del(r.proxy))
	r.must(del(r.proxy))
	want("after all is deleted", nil)
	for _, dir := range []string{r.dir(), r.opts.Layout.RunService(serviceName)} {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
	units, err := r.manager.Units(r.ctx(), "tekton/"+r.opts.Installation+"/")
	if err != nil || len(units) != 0 {
		t.Errorf("units left: %+v %v", units, err)
	}
}

func (r *rig) current() string {
	r.t.Helper()
	target, err := os.Readlink(filepath.Join(r.dir(), "current"))
	if err != nil {
		r.t.Fatal(err)
	}
	return target
}

func TestStale(t *testing.T) {
	r := newRig(t)
	mine := route("web.example.org", "/", backend(t, "mine"))
	theirs := mine
	theirs.Owner = "uid-of-another"
	r.must(put(r.proxy), put(mine))
	for _, s := range []resource.Step{put(theirs), del(theirs)} {
		if err := r.d.Apply(r.ctx(), []resource.Step{s})[0]; !errors.Is(err, resource.ErrStale) {
			t.Errorf("%s over another owner's: %v, want ErrStale", s, err)
		}
	}
	r.must(resource.Step{Verb: resource.Put, Resource: theirs, Seen: &mine})
	if got := r.observed(resource.KindRoute)[mine.ID].Owner; got != theirs.Owner {
		t.Errorf("owner %q, want %q", got, theirs.Owner)
	}
}

// TestRepair: whatever becomes of Caddy, what it serves is what current says.
func TestRepair(t *testing.T) {
	r := newRig(t)
	web := route("web.example.org", "/", backend(t, "web"))
	r.must(put(r.proxy), put(web))
	all := []string{"put proxy/caddy", "put route/web.example.org/"}
	site := func() string { return filepath.Join(r.dir(), r.current(), "sites", "web.example.org.caddy") }
	for _, tc := range []struct {
		reason  string
		harm    func()
		pending []string
	}{
		{"killed", r.kill, all},
		{"killed, and a bad file was planted beside the sites", func() {
			r.kill()
			write(t, filepath.Join(filepath.Dir(site()), "aaa.caddy"), "this is {{ no Caddyfile\n")
		}, all},
		{"killed, and a site was damaged", func() { r.kill(); write(t, site(), "http://web.example.org {\n") }, all},
		{"killed, and the generation was removed", func() { r.kill(); os.RemoveAll(filepath.Join(r.dir(), r.current())) }, all},
		{"killed, and the manifest is empty after a power cut", func() {
			r.kill()
			write(t, filepath.Join(r.dir(), r.current(), manifestFile), "")
			r.restartDaemon()
		}, all},
		{"another configuration was loaded", func() {
			text := "{\n\tadmin unix/" + r.d.admin.socket + " {\n\t\torigins tekton\n\t}\n}\nhttp://:8080 {\n\trespond foreign\n}\n"
			if err := r.d.admin.load(r.ctx(), text); err != nil {
				t.Fatal(err)
			}
		}, all},
		{"the admin socket was removed", func() {
			os.Remove(r.d.admin.socket)
			r.d.admin.client.CloseIdleConnections()
		}, all},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			tc.harm()
			r.d.seen.at = time.Time{} // as on a resync
			if d := cmp.Diff(tc.pending, r.pending(r.proxy, web)); d != "" {
				t.Errorf("pending (-want +got):\n%s", d)
			}
			r.must(put(r.proxy), put(web))
			wantBody(t, "web.example.org/", "web /")
			if todo := r.pending(r.proxy, web); todo != nil {
				t.Errorf("not converged: %v", todo)
			}
		})
	}
}

// TestDeleteWhileDown: what is deleted while Caddy is down is not served when it comes back.
func TestDeleteWhileDown(t *testing.T) {
	r := newRig(t)
	web, gone := route("web.example.org", "/", backend(t, "web")), route("gone.example.org", "/", backend(t, "gone"))
	r.must(put(r.proxy), put(web), put(gone))
	r.kill()
	if d := cmp.Diff([]string{"put proxy/caddy", "put route/web.example.org/", "delete route/gone.example.org/"}, r.pending(r.proxy, web)); d != "" {
		t.Errorf("pending (-want +got):\n%s", d)
	}
	r.must(del(gone))
	if d := cmp.Diff([]string{reasonDown}, r.apply(put(web))); d != "" {
		t.Errorf("a route while Caddy is down (-want +got):\n%s", d)
	}
	r.must(put(r.proxy))
	wantBody(t, "web.example.org/", "web /")
	wantStatus(t, "gone.example.org/", 404)
}

func (r *rig) kill() {
	r.t.Helper()
	changed := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(r.ctx())
	defer cancel()
	ready := make(chan struct{})
	go func() {
		close(ready)
		r.d.Watch(ctx, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}()
	<-ready
	if err := syscall.Kill(r.pid(), syscall.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
	for {
		s, _, err := r.manager.Status(r.dir())
		if err != nil {
			r.t.Fatal(err)
		}
		if !s.Running {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			r.t.Fatal("the end of Caddy was not noticed")
		}
	}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestPortInUse(t *testing.T) {
	r := newRig(t)
	other, err := net.Listen("tcp", ":8080")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	check := func(err error, port string) {
		t.Helper()
		if resource.Reason(err, "") != reasonPort || !strings.Contains(err.Error(), "port "+port) || !strings.Contains(err.Error(), "ingress.test") {
			t.Errorf("%v: want %s naming port %s and the process", err, reasonPort, port)
		}
	}
	check(r.d.Apply(r.ctx(), []resource.Step{put(r.proxy)})[0], "8080")
	other.Close()

	web := route("web.example.org", "/", backend(t, "web"))
	r.must(put(r.proxy), put(web))
	if other, err = net.Listen("tcp", ":8443"); err != nil {
		t.Fatal(err)
	}
	safe := route("safe.example.org", "/", backend(t, "safe"), secured(resource.TLSInternal))
	plain := route("plain.example.org", "/", backend(t, "plain"))
	errs := r.d.Apply(r.ctx(), []resource.Step{put(safe), put(plain)})
	check(errs[0], "8443")
	if errs[1] != nil {
		t.Errorf("a route without TLS: %v", errs[1])
	}
	wantBody(t, "plain.example.org/", "plain /")

	busy, err := net.Listen("tcp", ":8088")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	v := r.proxy.Value.(resource.Proxy)
	v.HTTPPort = 8088
	check(r.d.Apply(r.ctx(), []resource.Step{put(resource.New(resource.HostOwner, "", "caddy", v))})[0], "8088")
	wantBody(t, "plain.example.org/", "plain /")
	busy.Close()
	other.Close()
	r.must(put(resource.New(resource.HostOwner, "", "caddy", v)), put(safe))
	if todo := r.pending(resource.New(resource.HostOwner, "", "caddy", v), web, plain, safe); todo != nil {
		t.Errorf("not converged: %v", todo)
	}
}

// TestUnprivileged: Caddy is not root and serves a port below 1024.
func TestUnprivileged(t *testing.T) {
	r := newRig(t)
	v := r.proxy.Value.(resource.Proxy)
	v.HTTPPort = 80
	r.must(put(resource.New(resource.HostOwner, "", "caddy", v)), put(route("web.example.org", "/", backend(t, "web"))))
	if a := ask(t, client(nil), "http://web.example.org/"); a.status != 200 {
		t.Errorf("port 80: %+v", a)
	}
	as, err := account(testUser)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(fmt.Sprint("/proc/", r.pid()))
	if err != nil {
		t.Fatal(err)
	}
	if uid := st.Sys().(*syscall.Stat_t).Uid; uid != as.Uid {
		t.Errorf("Caddy runs as %d, want %d", uid, as.Uid)
	}
	if st, err = os.Stat(filepath.Dir(r.d.admin.socket)); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("directory of the admin socket: %v %v, want 0700", st.Mode(), err)
	}
}
