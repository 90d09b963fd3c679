package network

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/resource"
)

// bed is a driver with everything that a host needs, in this test's namespace.
type bed struct {
	*Driver
	t testing.TB
}

func newBed(t testing.TB, instance, subnet string) bed {
	t.Helper()
	testenv.Root(t, "nft", "ip")
	d, err := New(Options{
		Naming:       resource.Naming{Instance: instance, Subnet: netip.MustParsePrefix(subnet)},
		Installation: "0123456789ab",
		RecordSysctl: func(string, string) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	b := bed{Driver: d, t: t}
	t.Cleanup(func() { b.teardown(); d.Close() })
	return b
}

// standard returns the host-wide resources.
func (b bed) standard() []resource.Resource {
	n := b.naming
	host := func(name string, v resource.Value) resource.Resource {
		return resource.New(resource.HostOwner, "", name, v)
	}
	return []resource.Resource{
		host("net.ipv4.ip_forward", resource.Sysctl{Key: "net.ipv4.ip_forward", Value: "1"}),
		host(n.Service().String(), resource.Address{Addr: n.Service()}),
		host(n.Table(), resource.Table{Subnet: n.Subnet, Service: n.Service(), DNSPort: 53, DatabasePort: 5432, IngressPorts: []int{80, 443}}),
		host(policyName, resource.Policy{Subnet: n.Subnet, Table: n.RoutingTable(), Priority: n.RulePriority()}),
	}
}

func (b bed) endpoint(slot int, change func(*resource.Endpoint)) resource.Resource {
	e := resource.Endpoint{Link: b.naming.Link(slot), Addr: b.naming.Addr(slot), Egress: resource.EgressInternet}
	if change != nil {
		change(&e)
	}
	return resource.New(owner(slot), machine(slot), e.Link, e)
}

func owner(slot int) string   { return fmt.Sprintf("11111111-2222-3333-4444-%012d", slot) }
func machine(slot int) string { return fmt.Sprintf("web-%d", slot) }

func (b bed) link(slot int) resource.Resource {
	n := b.naming
	v := resource.Link{Name: n.Link(slot), Peer: n.Peer(slot), Label: machine(slot), HostAddr: n.HostAddr(slot), Addr: n.Addr(slot)}
	return resource.New(owner(slot), machine(slot), v.Name, v)
}

func (b bed) attachment(slot, leader int) resource.Resource {
	l := b.link(slot)
	return resource.New(l.Owner, l.Instance, l.Name, resource.Attachment{Link: l.Value.(resource.Link), Service: b.naming.Service(), Leader: leader})
}

func (b bed) exception(from, to, port int) resource.Resource {
	e := resource.Exception{From: b.naming.Addr(from), To: b.naming.Addr(to), Port: port, Protocol: "tcp"}
	return resource.New(owner(from), "", exceptionName(e), e)
}

func steps(verb resource.Verb, rs ...resource.Resource) []resource.Step {
	out := make([]resource.Step, len(rs))
	for i, r := range rs {
		out[i] = resource.Step{Verb: verb, Resource: r}
	}
	return out
}

func (b bed) do(verb resource.Verb, rs ...resource.Resource) {
	b.t.Helper()
	for i, err := range b.Apply(context.Background(), steps(verb, rs...)) {
		if err != nil {
			b.t.Fatalf("%s %s: %v", verb, rs[i].ID, err)
		}
	}
}

func (b bed) put(rs ...resource.Resource)    { b.t.Helper(); b.do(resource.Put, rs...) }
func (b bed) delete(rs ...resource.Resource) { b.t.Helper(); b.do(resource.Delete, rs...) }

// observe returns what is there, and fails when a kind is unknown.
func (b bed) observe() resource.Set {
	b.t.Helper()
	all := resource.Set{}
	for kind, d := range b.Observe(context.Background()) {
		if d.Err != nil {
			b.t.Fatalf("observe %s: %v", kind, d.Err)
		}
		for id, r := range d.Items {
			all[id] = r
		}
	}
	return all
}

// expect fails unless the resource is observed as it is.
func (b bed) expect(rs ...resource.Resource) {
	b.t.Helper()
	all := b.observe()
	for _, want := range rs {
		got, ok := all[want.ID]
		if !ok || !got.Equal(want) {
			b.t.Errorf("observed %+v (there: %v), want %+v", got, ok, want)
		}
	}
}

// differs fails when the resource is observed as it is.
func (b bed) differs(why string, want resource.Resource) {
	b.t.Helper()
	if got, ok := b.observe()[want.ID]; ok && got.Equal(want) {
		b.t.Errorf("after %s %s is observed as if nothing had happened", why, want.ID)
	}
}

// teardown deletes everything, in the planner's order.
func (b bed) teardown() {
	order := []resource.Kind{
		resource.KindAttachment, resource.KindLink, resource.KindException, resource.KindEndpoint,
		resource.KindPolicy, resource.KindTable, resource.KindAddress, resource.KindSysctl,
	}
	for _, kind := range order {
		var rs []resource.Resource
		for id, r := range b.observe() {
			if id.Kind == kind {
				rs = append(rs, r)
			}
		}
		for i, err := range b.Apply(context.Background(), steps(resource.Delete, rs...)) {
			if err != nil {
				b.t.Errorf("delete %s: %v", rs[i].ID, err)
			}
		}
	}
}

// run runs a program and returns its output.
func run(t testing.TB, argv ...string) string {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out.String())
	}
	return out.String()
}

// hostState is all that the package could change on a host, read by others.
func hostState(t testing.TB) string {
	t.Helper()
	return strings.Join([]string{
		run(t, "nft", "list", "ruleset"), run(t, "ip", "-d", "rule"), run(t, "ip", "-d", "route", "show", "table", "all"),
		run(t, "ip", "-d", "-o", "address"), run(t, "ip", "-o", "neigh"), run(t, "cat", "/proc/sys/net/ipv4/ip_forward"),
	}, "\n---\n")
}

// newMachine starts a process in a network namespace of its own.
func newMachine(t testing.TB) int { return newProcess(t, unix.CLONE_NEWNET) }

func newProcess(t testing.TB, flags uintptr) int {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}

// within runs f on a thread in the network namespace of a process.
func within(t testing.TB, pid int, f func() error) error {
	t.Helper()
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		ns, err := netns.GetFromPid(pid)
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// generation is what the kernel says of the nft ruleset.
func (b bed) generationNow() uint32 {
	b.t.Helper()
	b.rules.mu.Lock()
	defer b.rules.mu.Unlock()
	g, err := b.rules.generation()
	if err != nil {
		b.t.Fatal(err)
	}
	return g
}

// quietly fails when f changes anything that rtnetlink or nft tell of. Also to
// write what is there already makes an event for addresses and routes. Links
// are compared: the kernel tells of their carrier whenever it finds time.
func (b bed) quietly(f func()) {
	b.t.Helper()
	before, state := b.generationNow(), run(b.t, "ip", "-o", "rule")+aliases(b.t)
	done := make(chan struct{})
	addrs, routes := make(chan netlink.AddrUpdate, 64), make(chan netlink.RouteUpdate, 64)
	for _, err := range []error{netlink.AddrSubscribe(addrs, done), netlink.RouteSubscribe(routes, done)} {
		if err != nil {
			b.t.Fatal(err)
		}
	}
	f()
	close(done)
	if after := b.generationNow(); after != before {
		b.t.Errorf("the nft ruleset changed: generation %d, then %d", before, after)
	}
	if len(addrs)+len(routes) != 0 {
		b.t.Errorf("%d address and %d route events, want none", len(addrs), len(routes))
	}
	if diff := cmp.Diff(state, run(b.t, "ip", "-o", "rule")+aliases(b.t)); diff != "" {
		b.t.Errorf("ip rules or links changed (-before +after):\n%s", diff)
	}
}

// aliases shows index, name and alias of every link.
func aliases(t testing.TB) string {
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, l := range links {
		fmt.Fprintln(&b, l.Attrs().Index, l.Attrs().Name, l.Attrs().Alias, l.Attrs().Group, l.Attrs().HardwareAddr)
	}
	return b.String()
}

func sortedIDs(s resource.Set) []string {
	var out []string
	for id := range s {
		out = append(out, id.String())
	}
	slices.Sort(out)
	return out
}

func itoa(n int) string { return strconv.Itoa(n) }
