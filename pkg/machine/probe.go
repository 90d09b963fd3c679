package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

const (
	// minDial is the shortest time to connect: the first packet over a new link
	// may be lost, and the kernel repeats it only after a second.
	minDial = 100 * time.Millisecond
	// defaultTry bounds a try without a timeout of its own.
	defaultTry = time.Second
	// maxDrained of a response, so that the connection is not reset under the server.
	maxDrained = 64 << 10
)

func tryTimeout(p resource.Probe) time.Duration {
	if p.Timeout > 0 {
		return time.Duration(p.Timeout)
	}
	return defaultTry
}

// dialTimeout grows with the pause between tries, up to the probe's own.
func dialTimeout(pause time.Duration, p resource.Probe) time.Duration {
	return min(max(4*pause, minDial), tryTimeout(p))
}

// probe tries once. Port 0 asks for nothing: running on, attached, is enough.
func probe(ctx context.Context, a resource.Answer, dial time.Duration) error {
	if a.Probe.Port == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout(a.Probe))
	defer cancel()
	dialer := net.Dialer{Timeout: dial}
	addr := netip.AddrPortFrom(a.Addr, uint16(a.Probe.Port)).String()
	if a.Probe.HTTPPath == "" {
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return probeHTTP(ctx, &dialer, addr, a.Probe.HTTPPath)
}

// probeAll tries once, and whether somebody listens there as well.
func probeAll(ctx context.Context, a resource.Answer, dial time.Duration) error {
	if err := probe(ctx, a, dial); err != nil {
		return err
	}
	return listening(ctx, a, dial)
}

// listening tries once whether somebody does on the ports that routes lead to.
func listening(ctx context.Context, a resource.Answer, dial time.Duration) error {
	for _, port := range a.Probe.Routed {
		routed := resource.Answer{Addr: a.Addr, Probe: resource.Probe{Port: port, Timeout: a.Probe.Timeout}}
		if err := probe(ctx, routed, dial); err != nil {
			return fmt.Errorf("a route leads to port %d: %w", port, err)
		}
	}
	return nil
}

func probeHTTP(ctx context.Context, dialer *net.Dialer, addr, path string) error {
	client := http.Client{
		Transport:     &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "tekton-probe")
	resp, err := client.Do(req)
	if err != nil {
		return briefly(err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrained)
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("GET http://%s%s answered %s, want 200 to 399", addr, path, strconv.Itoa(resp.StatusCode))
	}
	return nil
}

// briefly bounds an error that quotes what a machine answered.
func briefly(err error) error {
	if text := err.Error(); len(text) > supervise.MaxLine {
		return errors.New(host.Shorten(text, supervise.MaxLine))
	}
	return err
}

// probed is one machine under observation after its first answer.
type probed struct {
	name   string
	answer resource.Answer
}

func (p probed) equal(q probed) bool { return p.name == q.name && p.answer.Equal(q.answer) }

// prober probes machines in intervals and remembers which do not answer.
type prober struct {
	// status is that of a machine.
	status func(machine string) (supervise.Status, bool, error)

	mu      sync.Mutex
	ctx     context.Context // of run; nil: nobody watches, nothing is probed
	notify  func()
	running map[string]*probing
}

type probing struct {
	probed
	cancel  context.CancelFunc
	failing string
}

func newProber(status func(machine string) (supervise.Status, bool, error)) *prober {
	return &prober{status: status, running: make(map[string]*probing)}
}

// run lets probes happen until stop is called.
func (p *prober) run(ctx context.Context, notify func()) (stop func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ctx, p.notify = ctx, notify
	return func() {
		p.want(nil)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ctx = nil
	}
}

// want starts and stops probes so that exactly these run.
func (p *prober) want(machines map[string]probed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx == nil {
		return
	}
	for name, have := range p.running {
		if w, ok := machines[name]; !ok || !w.equal(have.probed) {
			have.cancel()
			delete(p.running, name)
		}
	}
	for name, w := range machines {
		if p.running[name] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(p.ctx)
		one := &probing{probed: w, cancel: cancel}
		p.running[name] = one
		go p.loop(ctx, one, p.notify)
	}
}

func (p *prober) loop(ctx context.Context, one *probing, notify func()) {
	tick := time.NewTicker(time.Duration(one.answer.Probe.Interval))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		failing := ""
		if err := p.try(ctx, one); err != nil {
			failing = err.Error()
		}
		if ctx.Err() != nil {
			return
		}
		p.mu.Lock()
		// The text may differ from try to try; what counts is whether it fails.
		changed := (one.failing == "") != (failing == "")
		if changed {
			one.failing = failing
		}
		p.mu.Unlock()
		if changed {
			notify()
		}
	}
}

// try probes twice before it believes in a failure: the first may be a lost packet.
func (p *prober) try(ctx context.Context, one *probing) error {
	if probeAll(ctx, one.answer, minDial) == nil {
		return nil
	}
	err := probeAll(ctx, one.answer, tryTimeout(one.answer.Probe))
	if s, found, e := p.status(one.name); err != nil && e == nil && (!found || !s.Running) {
		return errors.New("the machine has ended")
	}
	return err
}

// failing says why the latest probe of what has answered failed: of what answered
// before it, also in the same start, it says nothing.
func (p *prober) failing(machine string, a resource.Answer) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one := p.running[machine]; one != nil && one.answer.Equal(a) {
		return one.failing
	}
	return ""
}
