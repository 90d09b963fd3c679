package dns

import (
	"net"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

const (
	queriesPerSecond = 200 // of one source
	queriesBurst     = 400
	forwardsEach     = 32  // open at once, of one source
	forwardsAll      = 256 // open at once
	connectionsEach  = 8   // over TCP, of one source
	connectionsAll   = 128
	// sourcesKept bounds the memory for idle sources.
	sourcesKept = 4096
)

// limits bounds what each source, and all of them together, may use.
type limits struct {
	mu          sync.Mutex
	sources     map[netip.Addr]*source
	forwards    int
	connections int
}

type source struct {
	queries     *rate.Limiter
	forwards    int
	connections int
}

func newLimits() *limits { return &limits{sources: map[netip.Addr]*source{}} }

// of returns the source's state. The caller holds mu.
func (l *limits) of(from netip.Addr) *source {
	s := l.sources[from]
	if s != nil {
		return s
	}
	if len(l.sources) >= sourcesKept {
		for addr, s := range l.sources {
			if s.forwards == 0 && s.connections == 0 {
				delete(l.sources, addr)
			}
		}
	}
	s = &source{queries: rate.NewLimiter(queriesPerSecond, queriesBurst)}
	l.sources[from] = s
	return s
}

// query reports whether the source may ask one question more.
func (l *limits) query(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(from).queries.Allow()
}

// forward reserves an open forward; the caller calls done when ok.
func (l *limits) forward(from netip.Addr) (done func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.of(from)
	if s.forwards >= forwardsEach || l.forwards >= forwardsAll {
		return nil, false
	}
	s.forwards++
	l.forwards++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		s.forwards--
		l.forwards--
	}, true
}

// connection reserves a connection; the caller calls done when ok.
func (l *limits) connection(from netip.Addr) (done func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.of(from)
	if s.connections >= connectionsEach || l.connections >= connectionsAll {
		return nil, false
	}
	s.connections++
	l.connections++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		s.connections--
		l.connections--
	}), true
}

// limitListener closes connections beyond the limits at once.
type limitListener struct {
	net.Listener
	limits *limits
}

func (l limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if done, ok := l.limits.connection(sourceOf(c.RemoteAddr())); ok {
			return &limitConn{c, done}, nil // the DNS library keeps connections as keys of a map
		}
		c.Close()
	}
}

type limitConn struct {
	net.Conn
	done func()
}

func (c *limitConn) Close() error {
	c.done()
	return c.Conn.Close()
}

// sourceOf is the address of a peer; the zero address for anything unexpected.
func sourceOf(a net.Addr) netip.Addr {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr().Unmap()
}
