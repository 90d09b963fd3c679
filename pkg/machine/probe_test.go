package machine_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tekton.host/pkg/resource"
)

func TestAnswer(t *testing.T) { eachRuntime(t, testAnswer) }

func testAnswer(t *testing.T, r *rig) {
	i := r.instance(1, "serve")
	u := r.run(i)
	short := resource.Duration(300 * time.Millisecond)
	for _, tt := range []struct {
		name   string
		change func(*resource.Answer)
		words  string // "" for success
	}{
		{"http", func(a *resource.Answer) { a.Probe = resource.Probe{HTTPPath: "/", Port: 8080} }, ""},
		{"tcp", func(a *resource.Answer) { a.Probe = resource.Probe{Port: 8080} }, ""},
		{"running on is enough", func(a *resource.Answer) { a.Probe = resource.Probe{} }, ""},
		{"wrong status", func(a *resource.Answer) { a.Probe = resource.Probe{HTTPPath: "/fail", Port: 8080, Deadline: short} }, "answered 500"},
		{"wrong port", func(a *resource.Answer) { a.Probe = resource.Probe{Port: 8081, Deadline: short} }, "connection refused"},
		{"another start", func(a *resource.Answer) { a.Boot = "former" }, "changed since"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.delete(resource.Answer{}, i.Name)
			a := resource.Answer{Addr: i.Addr, Boot: u.Boot}
			tt.change(&a)
			began := time.Now()
			err := r.put(a, i.Name)
			if took := time.Since(began); err == nil && a.Probe.Port == 0 && took < 300*time.Millisecond {
				t.Errorf("without a probe it counts as answering after %s: a command that fails at once would, too", took)
			}
			got, _, present := observed[resource.Answer](r, i.Name)
			switch {
			case tt.words == "" && (err != nil || !present || !got.Equal(a)):
				t.Errorf("%v; observed %v %+v", err, present, got)
			case tt.words != "" && (err == nil || present || !strings.Contains(err.Error(), tt.words)):
				t.Errorf("error %v, want %q; observed %v", err, tt.words, present)
			}
			if tt.words != "" && !isStale(err) && reasonOf(err) != "ProbeFailed" {
				t.Errorf("reason %q", reasonOf(err))
			}
		})
	}
	// It outlives the driver and the unit: the instance has answered once.
	a := resource.Answer{Addr: i.Addr, Boot: u.Boot}
	r.mustPut(a, i.Name)
	r.Driver = r.another()
	r.mustDelete(u, i.Name)
	if got, _, present := observed[resource.Answer](r, i.Name); !present || !got.Equal(a) {
		t.Errorf("after the stop: %v %+v", present, got)
	}
}

func TestAnswerStopsWhenTheUnitEnds(t *testing.T) {
	r := newRig(t)
	i := r.instance(1, "crash")
	r.mustPut(i, i.Name)
	r.mustPut(resource.Unit{Name: i.Name, Running: true}, i.Name)
	u := r.unit(i.Name)
	failed := make(chan error, 1)
	go func() {
		failed <- r.put(resource.Answer{Addr: i.Addr, Boot: u.Boot, Probe: resource.Probe{Port: 8080, Deadline: resource.Duration(time.Hour)}}, i.Name)
	}()
	r.attach(i, u.Leader)
	if err := <-failed; reasonOf(err) != "ProbeFailed" || !strings.Contains(err.Error(), "ended with code 7") {
		t.Errorf("error %v", err)
	}
}

// TestInterval flips a server between answering and not, and has one go that only
// a route leads to.
func TestInterval(t *testing.T) {
	r := newRig(t)
	var broken atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	at := netip.MustParseAddrPort(server.Listener.Addr().(*net.TCPAddr).AddrPort().String())

	routed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i := r.instance(1, "serve")
	u := r.run(i)
	ctx, cancel := context.WithCancel(r.ctx)
	news := make(chan struct{}, 100)
	done := make(chan error, 1)
	go func() {
		done <- r.Watch(ctx, func() {
			select {
			case news <- struct{}{}:
			default:
			}
		})
	}()
	r.mustPut(resource.Answer{Addr: at.Addr(), Boot: u.Boot, Probe: resource.Probe{HTTPPath: "/", Port: int(at.Port()), Interval: resource.Duration(20 * time.Millisecond), Routed: []int{routed.Addr().(*net.TCPAddr).Port}}}, i.Name)
	failing := func() string {
		a, _, _ := observed[resource.Answer](r, i.Name)
		return a.Failing
	}
	for _, state := range []bool{true, false} {
		broken.Store(state)
		r.eventually("the probe's change", func() bool { return (failing() != "") == state })
		if state && !strings.Contains(failing(), "503") {
			t.Errorf("failing says %q", failing())
		}
	}
	routed.Close()
	r.eventually("the closed port is told", func() bool { return strings.HasPrefix(failing(), "a route leads to port") })
	select {
	case <-news:
	default:
		t.Error("no notification")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestAnswerWaitsForServicesBeside: who has answered serves on all ports that
// routes lead to, though one of its services was there a moment later.
func TestAnswerWaitsForServicesBeside(t *testing.T) {
	r := newRig(t)
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	at := netip.MustParseAddrPort(web.Listener.Addr().String())
	beside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := beside.Addr().(*net.TCPAddr)
	beside.Close()
	i := r.instance(1, "serve")
	u := r.run(i)
	put := func() chan error {
		r.delete(resource.Answer{}, i.Name)
		answered := make(chan error, 1)
		go func() {
			answered <- r.put(resource.Answer{Addr: at.Addr(), Boot: u.Boot, Probe: resource.Probe{Port: int(at.Port()), Routed: []int{address.Port}}}, i.Name)
		}()
		return answered
	}
	answered := put()
	select {
	case err := <-answered:
		t.Errorf("answered while nobody listens beside: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if beside, err = net.ListenTCP("tcp", address); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	beside.Close()
	if err := <-put(); err != nil {
		t.Errorf("who never listens beside keeps it from answering: %v", err)
	}
}
