package onhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/doctor"
	"tekton.host/pkg/host"
)

const (
	// flowTimeout of one try: everything is on this host.
	flowTimeout = 2 * time.Second
	// machinePort that the host tries to reach.
	machinePort = 8080
	// tracer is a table of our own, for as long as a trial takes.
	tracer = "tekton_doctor"
)

// outside is an address for documentation: nobody has it, and no packet to it is answered.
var outside = netip.MustParseAddr("203.0.113.77")

// inside runs f in the network namespace of a process. Its thread is not used again.
func inside(pid int, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// attempt is one flow and how it is tried.
type attempt struct {
	name string
	try  func() error
}

// flows tries every way that tekton's own rules leave open.
func (t *trial) flows(ctx context.Context, leader int, link string) []doctor.Flow {
	service := t.naming.Service()
	var attempts []attempt
	if t.real.DNS.Mode == "managed" {
		for _, protocol := range []string{"udp", "tcp"} {
			attempts = append(attempts, attempt{"a machine reaches DNS (" + protocol + " 53)", func() error {
				return inside(leader, func() error { return askDNS(ctx, protocol, service) })
			}})
		}
	}
	if t.real.Ingress.Mode != "none" {
		attempts = append(attempts, dialed(leader, "the ingress", netip.AddrPortFrom(service, uint16(t.real.Ingress.HTTPPort))))
	}
	if t.real.Postgres.Mode != "none" {
		attempts = append(attempts, dialed(leader, "PostgreSQL", netip.AddrPortFrom(service, uint16(t.real.Postgres.Port))))
	}
	attempts = append(attempts, attempt{"the host reaches a machine", func() error {
		return reachMachine(leader, netip.AddrPortFrom(t.naming.Addr(1), machinePort))
	}})
	var out []doctor.Flow
	for _, a := range attempts {
		f := doctor.Flow{Name: a.name, Err: reason(a.try())}
		if f.Err != "" {
			f.By = culprit(ctx, link, func() { _ = a.try() })
		}
		out = append(out, f)
	}
	return append(out, t.leaving(ctx, leader, link))
}

func askDNS(ctx context.Context, protocol string, server netip.Addr) error {
	query := new(dns.Msg).SetQuestion(trialName+".tekton.internal.", dns.TypeA)
	_, _, err := (&dns.Client{Net: protocol, Timeout: flowTimeout}).ExchangeContext(ctx, query, netip.AddrPortFrom(server, 53).String())
	return err // whatever the answer is, it came
}

// dialed connects from the machine to a port where we listen; or who already
// does so on all addresses.
func dialed(leader int, what string, to netip.AddrPort) attempt {
	return attempt{fmt.Sprintf("a machine reaches %s (tcp %d)", what, to.Port()), func() error {
		l, err := net.Listen("tcp4", to.String())
		if err != nil && !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
		if err == nil {
			defer l.Close()
		}
		return inside(leader, func() error { return dial(to) })
	}}
}

func dial(to netip.AddrPort) error {
	conn, err := net.DialTimeout("tcp4", to.String(), flowTimeout)
	if err != nil {
		return err
	}
	return conn.Close()
}

// reachMachine listens in the machine and connects from the host.
func reachMachine(leader int, to netip.AddrPort) error {
	var l net.Listener
	err := inside(leader, func() (err error) {
		l, err = net.Listen("tcp4", to.String())
		return err
	})
	if err != nil {
		return err
	}
	defer l.Close()
	return dial(to)
}

// leaving sees whether a packet from the machine leaves the host, by counting
// where the last of the host's rules have let it pass.
func (t *trial) leaving(ctx context.Context, leader int, link string) doctor.Flow {
	f := doctor.Flow{Name: "a machine reaches the internet"}
	if _, err := netlink.RouteGet(outside.AsSlice()); err != nil {
		f.Unseen = "the host itself has no route there"
		return f
	}
	send := func() { _ = inside(leader, sendOutside) }
	passed, err := counted(ctx, send)
	switch {
	case err != nil:
		f.Unseen = err.Error()
	case !passed:
		f.Err = "what it sends does not leave this host"
		f.By = culprit(ctx, link, send)
	}
	return f
}

func sendOutside() error {
	conn, err := net.Dial("udp4", netip.AddrPortFrom(outside, 9).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte("tekton doctor"))
	return err
}

// counted reports whether what send sends outside has passed all chains.
func counted(ctx context.Context, send func()) (bool, error) {
	table := fmt.Sprintf("table inet %s {\n\tcounter passed { }\n\tchain last {\n\t\ttype filter hook postrouting priority 1000; policy accept;\n\t\tip daddr %s counter name passed\n\t}\n}\n", tracer, outside)
	if err := nft(ctx, table); err != nil {
		return false, err
	}
	defer removeTracer(ctx)
	send()
	text, err := host.Run(ctx, host.Command{Argv: []string{"nft", "list", "counter", "inet", tracer, "passed"}})
	if err != nil {
		return false, err
	}
	m := regexp.MustCompile(`packets ([0-9]+)`).FindSubmatch(text)
	if m == nil {
		return false, fmt.Errorf("nft tells no number of packets: %q", text)
	}
	n, err := strconv.Atoi(string(m[1]))
	return n > 0, err
}

func nft(ctx context.Context, text string) error {
	_, err := host.Run(ctx, host.Command{Argv: []string{"nft", "-f", "-"}, Stdin: text})
	return err
}

// removeTracer removes the table, also that of a doctor that was killed.
func removeTracer(ctx context.Context) error {
	return nft(ctx, fmt.Sprintf("table inet %s\ndelete table inet %s\n", tracer, tracer))
}

// dropped is a line of nft's trace that says who ended a packet's way.
var dropped = regexp.MustCompile(`(?m)^trace id \w+ (.*(?:verdict drop|policy drop).*)$`)

// culprit sends again while nft tells what becomes of the packets, and returns
// the rule or policy that drops them; "" when nft knows of none: rules of
// iptables-legacy are not its own.
func culprit(ctx context.Context, link string, send func()) string {
	table := fmt.Sprintf("table inet %s {\n\tchain from { type filter hook prerouting priority -1000; policy accept; iifname %q meta nftrace set 1; }\n"+
		"\tchain to { type filter hook output priority -1000; policy accept; oifname %q meta nftrace set 1; }\n}\n", tracer, link, link)
	if err := nft(ctx, table); err != nil {
		return ""
	}
	defer removeTracer(ctx)
	ctx, cancel := context.WithTimeout(ctx, 3*flowTimeout)
	defer cancel()
	var trace watched
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = host.Run(ctx, host.Command{Argv: []string{"nft", "monitor", "trace"}, Stdout: &trace, DiesWithUs: true})
	}()
	for range 3 { // it says nothing when it has begun to listen
		time.Sleep(flowTimeout / 10)
		send()
		if by := trace.culprit(); by != "" {
			cancel()
			<-ended
			return by
		}
	}
	cancel()
	<-ended
	return trace.culprit()
}

// watched collects what a program says while it runs.
type watched struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func (w *watched) culprit() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := dropped.FindSubmatch(w.text.Bytes()); m != nil {
		return strings.TrimSpace(string(m[1]))
	}
	return ""
}
