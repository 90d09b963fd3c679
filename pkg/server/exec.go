package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/host"
	"tekton.host/pkg/server/wire"
)

// drainTime that output may pause after the end of the command, while another
// process still holds it open.
const drainTime = 200 * time.Millisecond

// passedSignals are those that a client may send.
var passedSignals = []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2}

// exec runs a command in the object's machine and connects it with the client.
func (s *Server) exec(w http.ResponseWriter, r *http.Request) error {
	var req wire.ExecRequest
	if err := readJSON(w, r, wire.MaxRequest, &req); err != nil {
		return err
	}
	if err := checkExec(r, req); err != nil {
		return err
	}
	ns, leader, err := s.enter(r.Context(), pathRef(r))
	if err != nil {
		return err
	}
	defer ns.Close()
	argv := slices.Concat(leader.Launcher, req.Command)
	if req.Terminal != nil {
		argv = slices.Concat(takeTerminal, argv)
	}
	cmd, err := ns.Command(req.WorkDir, argv...)
	if err != nil {
		return err
	}
	s.sessions.Add(1)
	defer s.sessions.Done()
	p, err := startProcess(cmd, req.Terminal)
	if err != nil {
		return err
	}
	conn, buffered, err := upgrade(w, wire.ExecProtocol)
	if err != nil {
		p.end()
		p.reap()
		p.close()
		return err
	}
	defer conn.Close()
	session := &session{process: p, conn: conn, in: buffered.Reader, input: newInbox(wire.StdinWindow)}
	session.run(r.Context())
	return nil
}

// enter finds the object's machine and opens its namespaces.
func (s *Server) enter(ctx context.Context, ref v1alpha1.Ref) (*host.Namespaces, Leader, error) {
	leader, err := s.backend.Leader(ctx, ref)
	if err != nil {
		return nil, Leader{}, err
	}
	ns, err := host.OpenNamespaces(leader.PID)
	if err != nil {
		return nil, Leader{}, fmt.Errorf("open the namespaces of %s: %w", ref, err)
	}
	// It lived before and after they were opened, so they are its own.
	again, err := s.backend.Leader(ctx, ref)
	if err != nil || again.PID != leader.PID || again.Boot != leader.Boot {
		ns.Close()
		if err == nil {
			err = &wire.Error{Code: wire.Unavailable, Message: fmt.Sprintf("the machine of %s is being restarted", ref), Next: "try again when it is Ready: tekton wait --for=condition=Ready " + ref.String()}
		}
		return nil, Leader{}, err
	}
	return ns, leader, nil
}

func checkExec(r *http.Request, req wire.ExecRequest) error {
	invalid := func(message string) error { return &wire.Error{Code: wire.Invalid, Message: message} }
	nul := func(s string) bool { return strings.ContainsRune(s, 0) }
	switch {
	case r.Header.Get("Upgrade") != wire.ExecProtocol:
		return invalid("exec needs a client that speaks " + wire.ExecProtocol)
	case len(req.Command) == 0 || req.Command[0] == "":
		return invalid("exec needs a command")
	case slices.ContainsFunc(req.Command, nul) || nul(req.WorkDir):
		return invalid("an argument holds a NUL byte")
	case req.WorkDir != "" && !path.IsAbs(req.WorkDir):
		return invalid(fmt.Sprintf("working directory %q is no absolute path", req.WorkDir))
	}
	return nil
}

func upgrade(w http.ResponseWriter, protocol string) (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	conn.SetDeadline(time.Time{})
	_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\n\r\n")
	if err != nil {
		conn.Close()
	}
	return conn, buffered, err
}

// session connects a process with a client.
type session struct {
	process *process
	conn    net.Conn
	in      io.Reader
	input   *inbox

	write sync.Mutex
	ended atomic.Bool // the command has ended; what is left is to be drained
}

// run returns when the command has ended and its code was sent, or when the
// client or the server goes; then the command and all of its session are gone.
func (s *session) run(ctx context.Context) {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		s.receive()
	}()
	go s.feed()
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		s.process.exited()
	}()
	var output sync.WaitGroup
	output.Go(func() { s.pump(s.process.stdout, wire.FrameStdout) })
	if s.process.stderr != nil {
		output.Go(func() { s.pump(s.process.stderr, wire.FrameStderr) })
	}
	select {
	case <-exited:
	case <-gone:
		s.abandon()
	case <-ctx.Done():
		s.abandon()
	}
	<-exited
	s.drain(&output, gone)
	code := s.process.reap()
	s.send(wire.FrameExit, wire.Number(code))
	s.conn.Close()
	<-gone
	s.process.close()
}

// abandon ends the command, and whatever it or the client blocks on.
func (s *session) abandon() {
	s.conn.Close()
	if s.process.stderr == nil {
		s.process.stdin.Close() // the terminal hangs up
	}
	s.process.end()
}

// drain waits for the rest of the output; a client that takes none of it and
// then goes ends that.
func (s *session) drain(output *sync.WaitGroup, gone <-chan struct{}) {
	s.ended.Store(true)
	s.hurry()
	done := make(chan struct{})
	go func() {
		defer close(done)
		output.Wait()
	}()
	select {
	case <-done:
	case <-gone:
		s.conn.Close()
		<-done
	}
}

func (s *session) hurry() {
	for _, f := range []*os.File{s.process.stdout, s.process.stderr} {
		if f != nil {
			f.SetReadDeadline(time.Now().Add(drainTime))
		}
	}
}

// pump sends what the command writes.
func (s *session) pump(from *os.File, t wire.FrameType) {
	buf := make([]byte, wire.MaxFrame)
	for {
		if s.ended.Load() {
			from.SetReadDeadline(time.Now().Add(drainTime))
		}
		n, err := from.Read(buf)
		if n > 0 && s.send(t, buf[:n]) != nil {
			return
		}
		if err != nil {
			return
		}
	}
}

func (s *session) send(t wire.FrameType, payload []byte) error {
	s.write.Lock()
	defer s.write.Unlock()
	return wire.WriteFrame(s.conn, t, payload)
}

// feed gives the input to the command and the credit to the client. What comes
// after the command has closed its input is taken and dropped.
func (s *session) feed() {
	for {
		b, ok := s.input.take()
		if !ok {
			break
		}
		s.process.stdin.Write(b)
		s.input.taken(len(b))
		s.send(wire.FrameCredit, wire.Number(len(b)))
	}
	if s.process.stderr == nil {
		s.process.stdin.Write([]byte{endOfTransmission})
		return
	}
	s.process.stdin.Close()
}

// endOfTransmission (^D) is how the input of a terminal ends.
const endOfTransmission = 4

// receive reads the client's frames until it goes or breaks the protocol.
func (s *session) receive() {
	defer s.input.end()
	for {
		t, payload, err := wire.ReadFrame(s.in)
		if err != nil {
			return
		}
		switch t {
		case wire.FrameStdin:
			if !s.input.put(payload) {
				return
			}
		case wire.FrameStdinEnd:
			s.input.end()
		default:
			if s.control(t, payload) != nil {
				return
			}
		}
	}
}

func (s *session) control(t wire.FrameType, payload []byte) error {
	switch t {
	case wire.FrameResize:
		size, err := wire.ParseSize(payload)
		if err == nil && s.process.stderr == nil {
			s.process.resize(size)
		}
		return err
	case wire.FrameSignal:
		if len(payload) != 1 || !slices.Contains(passedSignals, syscall.Signal(payload[0])) {
			return errors.New("no signal that may be sent")
		}
		s.process.signal(syscall.Signal(payload[0]))
		return nil
	}
	return fmt.Errorf("frame type %d is not a client's", t)
}
