package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"

	"tekton.host/pkg/host"
	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
	"tekton.host/pkg/supervise/cgroup"
)

// TestMain is also the server: the supervisor starts this program as `PROGRAM dns DIR`.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "dns" {
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

var equate = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}), cmpopts.EquateEmpty()}

// world is a driver, a supervisor, and addresses on lo for server and machines.
type world struct {
	t       *testing.T
	driver  *Driver
	manager *supervise.Manager
}

func newWorld(t *testing.T) *world {
	testenv.Root(t, "unshare")
	addAddresses(t, naming.Service(), naming.HostAddr(4), web, db, other, netip.MustParseAddr("192.0.2.53"))
	base := t.TempDir()
	program := filepath.Join(base, "tekton-supervise")
	if out, err := exec.Command("go", "build", "-o", program, "tekton.host/cmd/tekton-supervise").CombinedOutput(); err != nil {
		t.Fatalf("build tekton-supervise: %v\n%s", err, out)
	}
	parent := fmt.Sprintf("tkdns%d", time.Now().UnixNano())
	manager, err := supervise.New(supervise.Options{Form: supervise.Supervised, Program: program, Parent: parent})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, manager: manager}
	w.driver, err = New(Options{Layout: host.Layout{State: base + "/state", Run: base + "/run"}, Naming: naming, Installation: "0123456789ab", Supervisor: manager, Program: self})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := manager.Stop(ctx, w.driver.dir, 0); err != nil {
			t.Errorf("stop the server: %v", err)
		}
		manager.Close()
		if h, err := cgroup.Find(); err == nil {
			if err := h.Group(parent).Remove(ctx); err != nil {
				t.Errorf("remove the test's cgroup: %v", err)
			}
		}
	})
	return w
}

func addAddresses(t *testing.T, addrs ...netip.Addr) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		a := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(32, 32)}}
		if err := netlink.AddrReplace(lo, a); err != nil {
			t.Fatal(err)
		}
	}
}

func resolver(listen netip.Addr, upstreams ...string) resource.Resource {
	return resource.New(resource.HostOwner, "", serviceName, resource.Resolver{Listen: netip.AddrPortFrom(listen, 53), Domain: "tekton.internal", Upstreams: upstreams})
}

func recordOf(owner, label string, addr netip.Addr, clients ...netip.Addr) resource.Resource {
	return resource.New(owner, "", label, resource.Record{Label: label, Addr: addr, Clients: clients})
}

func puts(rs ...resource.Resource) (steps []resource.Step) {
	for _, r := range rs {
		steps = append(steps, resource.Step{Verb: resource.Put, Resource: r})
	}
	return steps
}

func deletes(rs ...resource.Resource) (steps []resource.Step) {
	for _, r := range rs {
		steps = append(steps, resource.Step{Verb: resource.Delete, Resource: r})
	}
	return steps
}

func (w *world) must(steps []resource.Step) {
	w.t.Helper()
	if err := errors.Join(w.driver.Apply(w.t.Context(), steps)...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) observe(kind resource.Kind) resource.Set {
	w.t.Helper()
	d := w.driver.Observe(w.t.Context())[kind]
	if d.Err != nil {
		w.t.Fatal(d.Err)
	}
	return d.Items
}

// query asks the server from an address, over a network.
func query(network string, from, server netip.Addr, name string, qtype uint16) (*dns.Msg, error) {
	var local net.Addr = &net.UDPAddr{IP: from.AsSlice()}
	if network == "tcp" {
		local = &net.TCPAddr{IP: from.AsSlice()}
	}
	client := &dns.Client{Net: network, Timeout: 5 * time.Second, Dialer: &net.Dialer{LocalAddr: local, Timeout: 5 * time.Second}}
	m := new(dns.Msg).SetQuestion(name, qtype)
	reply, _, err := client.Exchange(m, netip.AddrPortFrom(server, 53).String())
	return reply, err
}

// ask returns the code and the data of an answer as one string.
func (w *world) ask(network string, from netip.Addr, name string) string {
	w.t.Helper()
	reply, err := query(network, from, naming.Service(), name, dns.TypeA)
	if err != nil {
		w.t.Fatalf("%s %s from %s: %v", network, name, from, err)
	}
	return dns.RcodeToString[reply.Rcode] + " " + data(reply)
}

// eventually waits until the server has taken up a change.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.t.Fatalf("%s: not in time", what)
}

// upstream is a resolver somewhere else: one answer for each name, one that is
// too long for a datagram, and a count of what it was asked.
func upstream(t *testing.T) (asked chan string) {
	t.Helper()
	asked = make(chan string, 1000)
	handler := dns.HandlerFunc(func(out dns.ResponseWriter, q *dns.Msg) {
		asked <- q.Question[0].Name
		m := new(dns.Msg).SetReply(q)
		n := 1
		if q.Question[0].Name == "long.example." {
			n = 200
		}
		for i := range n {
			m.Answer = append(m.Answer, &dns.A{Hdr: header(q.Question[0].Name, dns.TypeA), A: net.IPv4(203, 0, 113, byte(i))})
		}
		if _, udp := out.RemoteAddr().(*net.UDPAddr); udp {
			m.Truncate(dns.MinMsgSize)
		}
		out.WriteMsg(m)
	})
	for _, network := range []string{"udp", "tcp"} {
		ready := make(chan struct{})
		s := &dns.Server{Addr: "192.0.2.53:53", Net: network, Handler: handler, NotifyStartedFunc: func() { close(ready) }}
		go s.ListenAndServe()
		<-ready
		t.Cleanup(func() { s.Shutdown() })
	}
	return asked
}

func TestResolver(t *testing.T) {
	w := newWorld(t)
	asked := upstream(t)
	for _, kind := range w.driver.Kinds() {
		if got := w.observe(kind); len(got) != 0 {
			t.Errorf("%s: observed %v on a new host", kind, got)
		}
	}
	inside := recordOf("u2", "db", db, web)
	v := inside.Value.(resource.Record)
	v.NoForward = []netip.Addr{db}
	inside.Value = v
	records := []resource.Resource{inside, recordOf("u1", "web", web)}
	all := append(records, resolver(naming.Service(), "192.0.2.53"))
	w.must(puts(all...))
	want := resource.NewSet(all...)
	got := w.observe(resource.KindRecord)
	for id, r := range w.observe(resource.KindResolver) {
		got[id] = r
	}
	if diff := cmp.Diff(want, got, equate); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
	st, _, _ := w.manager.Status(w.driver.dir)

	for _, network := range []string{"udp", "tcp"} {
		cases := []struct {
			from       netip.Addr
			name, want string
		}{
			{web, "db.tekton.internal.", "NOERROR 10.99.0.5"},
			{db, "db.tekton.internal.", "NOERROR 10.99.0.5"},
			{other, "db.tekton.internal.", "NXDOMAIN "},
			{db, "web.tekton.internal.", "NXDOMAIN "},
			{web, "example.org.", "NOERROR 203.0.113.0"},
			{db, "example.org.", "REFUSED "},
			{netip.MustParseAddr("192.0.2.53"), "example.org.", "REFUSED "},
			{netip.MustParseAddr("192.0.2.53"), "db.tekton.internal.", "REFUSED "},
		}
		for _, c := range cases {
			if got := w.ask(network, c.from, c.name); got != c.want {
				t.Errorf("%s %s from %s = %q, want %q", network, c.name, c.from, got, c.want)
			}
		}
	}
	reply, err := query("tcp", web, naming.Service(), "long.example.", dns.TypeA)
	if err != nil || len(reply.Answer) != 200 {
		t.Errorf("a long answer over TCP: %d records, %v", len(reply.Answer), err)
	}
	reply, err = query("udp", web, naming.Service(), "long.example.", dns.TypeA)
	if err != nil || !reply.Truncated {
		t.Errorf("a long answer over UDP must say that it is truncated: %v", err)
	}
	for len(asked) > 0 {
		if name := <-asked; dns.IsSubDomain("tekton.internal.", name) {
			t.Errorf("a name of ours was asked outside: %s", name)
		}
	}

	w.must(append(puts(recordOf("u1", "web", web, other)), deletes(inside)...))
	w.eventually("the change", func() bool {
		return w.ask("udp", other, "web.tekton.internal.") == "NOERROR 10.99.0.3" && w.ask("udp", web, "db.tekton.internal.") == "NXDOMAIN "
	})
	if now, _, _ := w.manager.Status(w.driver.dir); now.PID != st.PID {
		t.Error("the server was restarted for a record")
	}

	w.must(deletes(append(all, all...)...))
	if _, err := os.Stat(w.driver.dir); !os.IsNotExist(err) {
		t.Errorf("the service's directory is left: %v", err)
	}
	if _, err := query("udp", web, naming.Service(), "web.tekton.internal.", dns.TypeA); err == nil {
		t.Error("somebody still answers")
	}
}

func TestServerFollowsItsAddress(t *testing.T) {
	w := newWorld(t)
	missing := resolver(netip.MustParseAddr("10.99.77.1"))
	if _, ok := errors.AsType[*resource.WaitingError](w.driver.Apply(t.Context(), puts(missing))[0]); !ok {
		t.Error("an address that is not there yet must be waited for")
	}
	w.must(puts(resolver(naming.Service()), recordOf("u1", "web", web)))
	moved := naming.HostAddr(4)
	w.must(puts(resolver(moved)))
	w.eventually("the new address", func() bool {
		reply, err := query("udp", web, moved, "web.tekton.internal.", dns.TypeA)
		return err == nil && data(reply) == web.String()
	})
}

func TestKilledServer(t *testing.T) {
	w := newWorld(t)
	want := resolver(naming.Service())
	w.must(puts(want, recordOf("u1", "web", web)))
	st, _, _ := w.manager.Status(w.driver.dir)
	if err := syscall.Kill(st.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.eventually("the end is seen", func() bool { return !w.observe(resource.KindResolver)[want.ID].Equal(want) })
	if len(w.observe(resource.KindRecord)) != 1 {
		t.Error("the records went with the process")
	}
	w.must(puts(want))
	if got := w.ask("udp", web, "web.tekton.internal."); got != "NOERROR 10.99.0.3" {
		t.Errorf("after the restart: %q", got)
	}
}

func TestDamagedZone(t *testing.T) {
	w := newWorld(t)
	w.must(puts(resolver(naming.Service()), recordOf("u1", "web", web)))
	if err := os.WriteFile(w.driver.zonePath(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, kind := range w.driver.Kinds() {
		if w.driver.Observe(t.Context())[kind].Err == nil {
			t.Errorf("%s is known although the zone is damaged", kind)
		}
	}
	if w.driver.Apply(t.Context(), puts(recordOf("u2", "x", db)))[0] == nil {
		t.Error("a damaged zone was written over")
	}
	if got := w.ask("udp", web, "web.tekton.internal."); got != "NOERROR 10.99.0.3" {
		t.Errorf("the server lost its last good zone: %q", got)
	}
}

func TestBatchErrors(t *testing.T) {
	w := newWorld(t)
	w.must(puts(recordOf("u1", "web", web)))
	bad := recordOf("u1", "Bad_Label", web)
	stolen := recordOf("u9", "web", other)
	errs := w.driver.Apply(t.Context(), puts(recordOf("u2", "db", db), bad, stolen))
	if errs[0] != nil || !errors.Is(errs[2], resource.ErrStale) {
		t.Errorf("errors = %v", errs)
	}
	if _, ok := errors.AsType[*resource.TerminalError](errs[1]); !ok {
		t.Errorf("%v is not terminal", errs[1])
	}
	if diff := cmp.Diff(resource.NewSet(recordOf("u1", "web", web), recordOf("u2", "db", db)), w.observe(resource.KindRecord), equate); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
}
