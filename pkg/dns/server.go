package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/fsnotify/fsnotify"
	"github.com/miekg/dns"
)

const (
	readTimeout = 2 * time.Second
	idleTimeout = 10 * time.Second
	queriesTCP  = 128 // on one connection
	// maxUDP is what we send in one datagram, whatever a client says that it takes.
	maxUDP = 1232
	// memoryLimit for the garbage collector: the server is small and idle.
	memoryLimit = 48 << 20
)

// Serve is the process `tektond dns DIR`: it answers as DIR/zone.json says, on
// the address there, until ctx ends. A zone that changes is taken up at once.
func Serve(ctx context.Context, dir string) error {
	debug.SetMemoryLimit(memoryLimit)
	return (&server{path: filepath.Join(dir, zoneFile), limits: newLimits(), upstreams: upstreams{file: hostResolvers}}).run(ctx)
}

type server struct {
	path      string
	limits    *limits
	upstreams upstreams
	table     atomic.Pointer[table]
}

func (s *server) run(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", s.path, err)
	}
	defer w.Close()
	// The directory: the file is replaced, not written.
	if err := w.Add(filepath.Dir(s.path)); err != nil {
		return fmt.Errorf("watch %s: %w", s.path, err)
	}
	if err := s.load(); err != nil {
		return err
	}
	for {
		again, err := s.listen(ctx, w)
		if err != nil || !again {
			return err
		}
	}
}

// load takes up the zone.
func (s *server) load() error {
	b, err := os.ReadFile(s.path)
	if err != nil {
		return err
	}
	z, err := decodeZone(b)
	if err != nil {
		return err
	}
	s.table.Store(newTable(z))
	return nil
}

// listen serves on the zone's address until ctx ends or the address changes (again).
func (s *server) listen(ctx context.Context, w *fsnotify.Watcher) (again bool, err error) {
	addr := s.table.Load().Resolver.Listen
	packets, err := net.ListenPacket("udp", addr.String())
	if err != nil {
		return false, fmt.Errorf("listen for DNS: %w", err)
	}
	defer packets.Close()
	stream, err := net.Listen("tcp", addr.String())
	if err != nil {
		return false, fmt.Errorf("listen for DNS: %w", err)
	}
	defer stream.Close()
	handler := dns.HandlerFunc(func(out dns.ResponseWriter, m *dns.Msg) { s.handle(ctx, out, m) })
	servers := []*dns.Server{
		{PacketConn: packets, Handler: handler, UDPSize: dns.DefaultMsgSize},
		{Listener: limitListener{stream, s.limits}, Handler: handler, ReadTimeout: readTimeout, IdleTimeout: func() time.Duration { return idleTimeout }, MaxTCPQueries: queriesTCP},
	}
	ended := make(chan error, len(servers))
	for _, server := range servers {
		go func() { ended <- server.ActivateAndServe() }()
		defer server.Shutdown()
	}
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return false, fmt.Errorf("tell the supervisor: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return false, nil
		case err := <-ended:
			return false, fmt.Errorf("serve DNS on %s: %w", addr, errors.Join(err, net.ErrClosed))
		case e := <-w.Events:
			if e.Name != s.path {
				continue
			}
		case <-w.Errors: // events were lost
		}
		if err := s.load(); err != nil {
			fmt.Fprintln(os.Stderr, "the last good zone stays:", err)
		}
		if s.table.Load().Resolver.Listen != addr {
			return true, nil
		}
	}
}

// handle answers one query.
func (s *server) handle(ctx context.Context, out dns.ResponseWriter, query *dns.Msg) {
	reply := s.reply(ctx, query, out)
	reply.Id, reply.Response, reply.Opcode = query.Id, true, query.Opcode
	reply.RecursionDesired, reply.RecursionAvailable = query.RecursionDesired, true
	reply.Question = query.Question
	size := dns.MaxMsgSize
	if _, udp := out.RemoteAddr().(*net.UDPAddr); udp {
		size = dns.MinMsgSize
		if opt := query.IsEdns0(); opt != nil {
			size = min(max(int(opt.UDPSize()), dns.MinMsgSize), maxUDP)
		}
	}
	if query.IsEdns0() != nil && reply.IsEdns0() == nil {
		reply.SetEdns0(maxUDP, false)
	}
	reply.Truncate(size)
	out.WriteMsg(reply) // an error means that the client has gone
}

// reply decides; its result may be changed by the caller.
func (s *server) reply(ctx context.Context, query *dns.Msg, out dns.ResponseWriter) *dns.Msg {
	t, from := s.table.Load(), sourceOf(out.RemoteAddr())
	if !t.mayAsk(from) || !s.limits.query(from) {
		return withCode(dns.RcodeRefused)
	}
	if query.Opcode != dns.OpcodeQuery {
		return withCode(dns.RcodeNotImplemented)
	}
	if len(query.Question) != 1 {
		return withCode(dns.RcodeFormatError)
	}
	q := query.Question[0]
	if q.Qclass != dns.ClassINET || q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR {
		return withCode(dns.RcodeRefused)
	}
	if own := t.answer(q, from); own != nil {
		own.Authoritative = true
		return own
	}
	if !t.mayForward(from) {
		return withCode(dns.RcodeRefused)
	}
	done, ok := s.limits.forward(from)
	if !ok {
		return withCode(dns.RcodeServerFailure)
	}
	defer done()
	upstream := query.Copy()
	upstream.Id = dns.Id()
	reply, err := exchange(ctx, upstream, s.upstreams.of(t.zone))
	if err != nil {
		return withCode(dns.RcodeServerFailure)
	}
	return reply
}

func withCode(rcode int) *dns.Msg {
	m := &dns.Msg{}
	m.Rcode = rcode
	return m
}
