package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"tekton.host/pkg/api/v1alpha1"
)

// journalPause is the longest that a journal that is not followed may say
// nothing: who reads logs does not wait for a machine that does not answer.
var journalPause = 10 * time.Second

// openLog opens what the options ask for. Of a machine that boots that is its
// journal: its units write there, and to its console only while it starts.
func (s *Server) openLog(ctx context.Context, ref v1alpha1.Ref, o v1alpha1.LogOptions) (io.ReadCloser, error) {
	console := func() (io.ReadCloser, error) { return s.backend.Logs(ctx, ref, o) }
	if o.Console || o.Previous || o.Build || o.Setup {
		return console()
	}
	j, err := s.startJournal(ctx, ref, o)
	if err != nil || j == nil {
		return console()
	}
	j.console = console
	if !o.Follow {
		j.pause = journalPause
	}
	return j, nil
}

// startJournal starts the machine's own journalctl, inside: files of a machine
// may be anything, and so they are read with its rights and not with ours. nil:
// the machine does not boot.
func (s *Server) startJournal(ctx context.Context, ref v1alpha1.Ref, o v1alpha1.LogOptions) (*journal, error) {
	// Most machines do not boot: nothing is opened for them.
	if leader, err := s.backend.Leader(ctx, ref); err != nil || !leader.Boots {
		return nil, err
	}
	ns, leader, err := s.enter(ctx, ref)
	if err != nil {
		return nil, err
	}
	cmd, err := ns.Command("", slices.Concat(leader.Launcher, journalctl(o))...)
	if err != nil {
		ns.Close()
		return nil, err
	}
	p, err := startProcess(cmd, nil)
	if err != nil {
		ns.Close()
		return nil, err
	}
	p.stdin.Close()
	go io.Copy(io.Discard, p.stderr)
	s.sessions.Add(1)
	return &journal{process: p, done: func() { ns.Close(); s.sessions.Done() }}, nil
}

func journalctl(o v1alpha1.LogOptions) []string {
	lines := "all"
	if o.Tail >= 0 {
		lines = strconv.Itoa(o.Tail)
	}
	argv := []string{"journalctl", "--quiet", "--no-pager", "--no-hostname", "--lines=" + lines}
	if !o.Since.IsZero() {
		argv = append(argv, fmt.Sprintf("--since=@%d", o.Since.Unix()))
	}
	if o.Follow {
		argv = append(argv, "--follow")
	}
	return argv
}

// journal reads what journalctl says, and the console's log where it says
// nothing: there may be no journalctl, or no journal yet.
type journal struct {
	process *process
	pause   time.Duration // 0: for ever
	console func() (io.ReadCloser, error)
	done    func()
	said    bool

	mu     sync.Mutex
	closed bool
	other  io.ReadCloser // the console's log, when it is read
}

func (j *journal) Read(b []byte) (int, error) {
	if j.other != nil {
		return j.other.Read(b)
	}
	if j.pause > 0 {
		defer time.AfterFunc(j.pause, j.process.end).Stop()
	}
	n, err := j.process.stdout.Read(b)
	j.said = j.said || n > 0
	if n == 0 && !j.said && errors.Is(err, io.EOF) {
		return j.fallBack(b)
	}
	return n, err
}

func (j *journal) fallBack(b []byte) (int, error) {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return 0, io.EOF
	}
	other, err := j.console()
	j.other = other
	j.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return other.Read(b)
}

// Close ends what is inside the machine, and with it a Read.
func (j *journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	j.process.end()
	j.process.reap()
	j.process.close()
	j.done()
	if j.other != nil {
		return j.other.Close()
	}
	return nil
}
