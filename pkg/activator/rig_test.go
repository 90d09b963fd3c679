package activator

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"tekton.host/pkg/host"
	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
	"tekton.host/pkg/supervise/cgroup"
	"tekton.host/pkg/supervise/supervisetest"
)

// TestMain is also the process: the supervisor starts this program as
// `PROGRAM activator DIR`.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == serviceName {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := Serve(ctx, os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	testenv.Main(m)
}

func localAddr(ctx context.Context, addr string) context.Context {
	return context.WithValue(ctx, http.LocalAddrContextKey, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
}

var (
	naming  = resource.Naming{Subnet: netip.MustParsePrefix("10.99.0.0/24")}
	listen  = netip.AddrPortFrom(naming.Service(), 7850)
	backend = naming.Addr(1)
)

const backendPort = 3000

// rig is a driver over a real process, and a machine's address on lo.
type rig struct {
	t      *testing.T
	driver *Driver
}

func newRig(t *testing.T) *rig {
	testenv.Root(t, "unshare")
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []netip.Addr{naming.Service(), backend} {
		if err := netlink.AddrReplace(lo, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}}); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "tkact")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := fmt.Sprintf("tkact%d", time.Now().UnixNano())
	manager, err := supervise.New(supervise.Options{Form: supervise.Supervised, Program: supervisetest.Program(t), Parent: parent})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t}
	r.driver, err = New(Options{
		Layout: host.Layout{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}, Naming: naming,
		Installation: "0123456789ab", Supervisor: manager, Program: self, User: "nobody",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := manager.Stop(ctx, r.driver.dir, 0); err != nil {
			t.Errorf("stop the activator: %v", err)
		}
		manager.Close()
		if h, err := cgroup.Find(); err == nil {
			if err := h.Group(parent).Remove(ctx); err != nil {
				t.Errorf("remove the test's cgroup: %v", err)
			}
		}
	})
	return r
}

func process() resource.Resource {
	return resource.New(resource.HostOwner, "", serviceName, resource.Activator{Listen: listen})
}

func gateOf(to netip.Addr, after time.Duration) resource.Resource {
	return resource.New("uid-1", "", "web", resource.Gate{Label: "Preview/web", Backend: to, SleepAfter: resource.Duration(after)})
}

func put(r resource.Resource) resource.Step { return resource.Step{Verb: resource.Put, Resource: r} }
func del(r resource.Resource) resource.Step { return resource.Step{Verb: resource.Delete, Resource: r} }

func (r *rig) apply(steps ...resource.Step) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for i, err := range r.driver.Apply(ctx, steps) {
		if err != nil {
			r.t.Fatalf("%s: %v\n%s", steps[i], err, supervise.TailLog(r.driver.dir, 10))
		}
	}
}

// gate is the observed one.
func (r *rig) gate() (g resource.Gate, found bool) {
	r.t.Helper()
	d := r.driver.Observe(context.Background())[resource.KindGate]
	if d.Err != nil {
		r.t.Fatal(d.Err)
	}
	for _, x := range d.Items {
		return x.Value.(resource.Gate), true
	}
	return g, false
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("not within 10s: %s\n%s", what, supervise.TailLog(r.driver.dir, 10))
		}
	}
}

// ask sends a request as the proxy does.
func (r *rig) ask(method, path string, body io.Reader, change func(*http.Request)) (int, string) {
	r.t.Helper()
	q, err := http.NewRequest(method, "http://"+listen.String()+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	q.Host = "web.example.org"
	q.Header.Set(resource.GateHeader, fmt.Sprintf("web:%d", backendPort))
	if change != nil {
		change(q)
	}
	res, err := http.DefaultClient.Do(q)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(text)
}

// serve answers as the machine does, until the test or stop ends it.
func (r *rig) serve(h http.HandlerFunc) (stop func()) {
	r.t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(backend, backendPort).String())
	if err != nil {
		r.t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go s.Serve(l)
	r.t.Cleanup(func() { s.Close() })
	return func() { s.Close() }
}
