package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"syscall"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/server/wire"
)

// Streams connect a command in a machine.
type Streams struct {
	// Stdin of the command. optional
	Stdin io.Reader
	// Stdout and Stderr of the command; with a terminal all is Stdout. required
	Stdout, Stderr io.Writer
	// Resize yields the terminal's new sizes. optional
	Resize <-chan wire.Size
	// Signals are passed to the command. optional
	Signals <-chan os.Signal
}

// Exec runs a command in an object's machine and returns its exit code. When
// ctx ends, the command is ended too.
func (c *Client) Exec(ctx context.Context, ref v1alpha1.Ref, req wire.ExecRequest, streams Streams) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := c.do(ctx, request{
		method: http.MethodPost, path: objectPath(ref, "/exec"), body: req,
		header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {wire.ExecProtocol}},
	})
	if err != nil {
		return 0, err
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body.Close()
		return 0, fmt.Errorf("the daemon on %s does not speak %s", c.socket, wire.ExecProtocol)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	e := &execution{conn: conn, window: newWindow(wire.StdinWindow), done: ctx.Done()}
	defer e.window.close()
	go e.input(streams.Stdin)
	go e.control(streams)
	code, err := e.output(streams)
	if err != nil {
		return 0, c.broken(ctx, err)
	}
	return code, nil
}

// execution is the client's side of an exec session.
type execution struct {
	conn   io.ReadWriteCloser
	write  sync.Mutex
	window *window
	done   <-chan struct{}
}

func (e *execution) send(t wire.FrameType, payload []byte) error {
	e.write.Lock()
	defer e.write.Unlock()
	return wire.WriteFrame(e.conn, t, payload)
}

func (e *execution) input(stdin io.Reader) {
	if stdin == nil {
		e.send(wire.FrameStdinEnd, nil)
		return
	}
	for {
		room := e.window.take(wire.MaxFrame)
		if room == 0 {
			return
		}
		buf := make([]byte, room)
		n, err := stdin.Read(buf)
		if n > 0 && e.send(wire.FrameStdin, buf[:n]) != nil {
			return
		}
		if err != nil {
			e.send(wire.FrameStdinEnd, nil)
			return
		}
		e.window.grant(room - n)
	}
}

func (e *execution) control(s Streams) {
	for {
		var err error
		select {
		case size, ok := <-s.Resize:
			if !ok {
				s.Resize = nil
				continue
			}
			err = e.send(wire.FrameResize, size.Payload())
		case sig, ok := <-s.Signals:
			if !ok {
				s.Signals = nil
				continue
			}
			if n, is := sig.(syscall.Signal); is {
				err = e.send(wire.FrameSignal, []byte{byte(n)})
			}
		case <-e.done:
			return
		}
		if err != nil {
			return
		}
	}
}

// output copies what the command writes until its exit code comes.
func (e *execution) output(s Streams) (int, error) {
	for {
		t, payload, err := wire.ReadFrame(e.conn)
		if err != nil {
			return 0, err
		}
		switch t {
		case wire.FrameStdout:
			_, err = s.Stdout.Write(payload)
		case wire.FrameStderr:
			_, err = s.Stderr.Write(payload)
		case wire.FrameCredit:
			var n int
			n, err = wire.ParseNumber(payload)
			e.window.grant(n)
		case wire.FrameExit:
			return wire.ParseNumber(payload)
		default:
			err = fmt.Errorf("frame type %d is not the daemon's", t)
		}
		if errors.Is(err, syscall.EPIPE) {
			return 0, err
		}
		if err != nil {
			return 0, fmt.Errorf("pass on the command's output: %w", err)
		}
	}
}

// window is the room for input that is under way.
type window struct {
	mu     sync.Mutex
	more   sync.Cond
	room   int
	closed bool
}

func newWindow(room int) *window {
	w := &window{room: room}
	w.more.L = &w.mu
	return w
}

// take waits for room and takes at most limit of it; 0: closed.
func (w *window) take(limit int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.room == 0 && !w.closed {
		w.more.Wait()
	}
	if w.closed {
		return 0
	}
	n := min(w.room, limit)
	w.room -= n
	return n
}

func (w *window) grant(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.room += n
	w.more.Signal()
}

func (w *window) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.more.Signal()
}
