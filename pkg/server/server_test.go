package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/server"
	"tekton.host/pkg/server/servertest"
	"tekton.host/pkg/server/wire"
	"tekton.host/pkg/spec"
)

func listen(t *testing.T, o server.ListenOptions) net.Listener {
	t.Helper()
	l, err := server.Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestListenPermissions(t *testing.T) {
	testenv.Root(t)
	g, err := user.LookupGroup("daemon")
	if err != nil {
		t.Fatal(err)
	}
	for group, want := range map[string]string{"": "Srw------- 0 0", "daemon": "Srw-rw---- 0 " + g.Gid} {
		path := filepath.Join(t.TempDir(), "s")
		listen(t, server.ListenOptions{Path: path, Group: group})
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		if diff := cmp.Diff(want, fmt.Sprintf("%v %d %d", info.Mode(), st.Uid, st.Gid)); diff != "" {
			t.Errorf("group %q (-want +got):\n%s", group, diff)
		}
	}
}

func TestListenReplacesOnlyAStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first := listen(t, server.ListenOptions{Path: path})
	if _, err := server.Listen(server.ListenOptions{Path: path}); err == nil || !strings.Contains(err.Error(), "another daemon listens") {
		t.Errorf("while somebody listens: %v", err)
	}
	first.Close()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a closed socket is left: %v", err)
	}

	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()
	second := listen(t, server.ListenOptions{Path: path})
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("files beside the socket: %v", entries)
	}

	// Somebody else's socket at our place is not removed with ours.
	os.Remove(path)
	listen(t, server.ListenOptions{Path: path})
	second.Close()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the other's socket: %v", err)
	}
}

func TestListenRefusals(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		o    server.ListenOptions
		want string
	}{
		"a file":   {server.ListenOptions{Path: file}, "is no socket"},
		"group":    {server.ListenOptions{Path: filepath.Join(t.TempDir(), "s"), Group: "no-such-group"}, "groupadd"},
		"too long": {server.ListenOptions{Path: filepath.Join(t.TempDir(), strings.Repeat("x", 120))}, "too long"},
	} {
		if _, err := server.Listen(tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("the file in the way was changed")
	}
}

func TestClientUnreachable(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	l, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	for path, want := range map[string]string{filepath.Join(dir, "none"): "no socket", stale: "nobody listens"} {
		_, err := client.New(path).List(t.Context())
		e, ok := errors.AsType[*client.UnreachableError](err)
		if !ok || !strings.Contains(e.Error(), want) || !strings.Contains(e.Next(), "tektond") {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func TestErrorsReachTheClient(t *testing.T) {
	want := &wire.Error{
		Code: wire.Invalid, Message: "no", Next: "do",
		Problems: []spec.Problem{{Position: spec.Position{File: "a.yaml", Line: 3, Column: 4}, Field: "spec.x", Reason: "UnknownField", Message: "unknown"}},
	}
	b := servertest.New(servertest.State{Errors: map[string]*wire.Error{"Apply": want}})
	socket, _ := serve(t, b)
	c := client.New(socket)
	_, err := c.Apply(t.Context(), "", []v1alpha1.File{{Name: "a.yaml", Data: []byte("x")}})
	got, _ := errors.AsType[*wire.Error](err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := c.Restart(t.Context(), v1alpha1.Ref{Kind: "Container", Name: "../../etc"}); err == nil || !strings.Contains(err.Error(), "is no name") {
		t.Errorf("a name with a path: %v", err)
	}
	if err := c.RestoreData(t.Context(), "../x"); err == nil || !strings.Contains(err.Error(), "is no id") {
		t.Errorf("an id that leads out: %v", err)
	}
	if err := c.DeleteData(t.Context(), "trash/volume/web"); err == nil || !strings.Contains(err.Error(), "there is no data") {
		t.Errorf("an id with slashes does not arrive: %v", err)
	}
}

func TestWatch(t *testing.T) {
	b := servertest.New(servertest.State{Items: []v1alpha1.Item{item("b"), item("a")}})
	socket, _ := serve(t, b)
	changes := []func(*servertest.State){
		func(s *servertest.State) { s.Items[0].Status.Phase = v1alpha1.PhaseFailed },
		func(s *servertest.State) { s.Items = s.Items[:1] },
		func(s *servertest.State) { s.Items = append(s.Items, item("c")) },
	}
	var got []string
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for e, err := range client.New(socket).Watch(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		line := string(e.Type)
		if e.Item != nil {
			line += " " + e.Item.Metadata.Name + " " + string(e.Item.Status.Phase)
		}
		got = append(got, line)
		if e.Type == v1alpha1.WatchPut && len(got) < 3 {
			continue
		}
		if len(changes) == 0 {
			break
		}
		b.Update(changes[0])
		changes = changes[1:]
	}
	want := []string{"put a Ready", "put b Ready", "synced", "put b Failed", "delete a Ready", "put c Ready"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Watchers and readers of logs that hang delay neither others nor the end.
func TestHungClients(t *testing.T) {
	items := []v1alpha1.Item{item("web")}
	for i := range 500 {
		it := item(fmt.Sprintf("c%d", i))
		it.Spec = strings.Repeat("x", 4096)
		items = append(items, it)
	}
	b := servertest.New(servertest.State{Items: items, LogReader: func(v1alpha1.Ref) io.ReadCloser { return &endless{} }})
	socket, stop := serve(t, b)
	var conns []net.Conn
	for _, path := range []string{"/v1/objects?watch", "/v1/objects/Container/web/logs?follow", "/v1/objects"} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		if _, err := io.ReadFull(conn, make([]byte, 8)); err != nil { // it is being answered
			t.Fatal(err)
		}
	}
	if got, err := client.New(socket).List(t.Context()); err != nil || len(got) != len(items) {
		t.Errorf("beside hung clients: %d items, %v", len(got), err)
	}
	stop()
	for i, conn := range conns {
		if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("connection %d after the end: %v", i, err)
		}
	}
}

// endless is a log that always has more, until it is closed.
type endless struct {
	mu     sync.Mutex
	closed bool
}

func (e *endless) Read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return 0, fs.ErrClosed
	}
	return copy(p, bytes.Repeat([]byte("line\n"), len(p)/5+1)), nil
}

func (e *endless) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	return nil
}

// A reader that blocks is closed when its client goes.
func TestLogReaderIsClosed(t *testing.T) {
	r, w := io.Pipe()
	b := servertest.New(servertest.State{Items: []v1alpha1.Item{item("web")}, LogReader: func(v1alpha1.Ref) io.ReadCloser { return r }})
	socket, _ := serve(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	log, err := client.New(socket).Logs(ctx, web, v1alpha1.LogOptions{Follow: true, Tail: -1})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "line\n")
	if got, err := io.ReadAll(io.LimitReader(log, 5)); err != nil || string(got) != "line\n" {
		t.Errorf("read %q, %v", got, err)
	}
	cancel()
	eventually(t, "the reader is closed", func() bool {
		_, err := w.Write([]byte("x"))
		return errors.Is(err, io.ErrClosedPipe)
	})
}

// A log that breaks off is no log that ended.
func TestLogErrorReachesTheClient(t *testing.T) {
	r, w := io.Pipe()
	b := servertest.New(servertest.State{Items: []v1alpha1.Item{item("web")}, LogReader: func(v1alpha1.Ref) io.ReadCloser { return r }})
	socket, _ := serve(t, b)
	log, err := client.New(socket).Logs(t.Context(), web, v1alpha1.LogOptions{Tail: -1})
	if err != nil {
		t.Fatal(err)
	}
	w.CloseWithError(errors.New("disk on fire"))
	if _, err := io.ReadAll(log); err == nil {
		t.Error("the client took a broken log for a whole one")
	}
}

// Requests that change something are logged with who made them, and no value of a secret is.
func TestRequestLog(t *testing.T) {
	var mu sync.Mutex
	var lines []string
	log := funcr.New(func(_, args string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, args)
	}, funcr.Options{})
	s, err := server.New(server.Options{Backend: servertest.New(servertest.State{}), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	l := listen(t, server.ListenOptions{Path: path})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	c := client.New(path)
	if err := c.SetSecret(t.Context(), "token", []byte("hunter2")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want := []string{fmt.Sprintf(`"level"=0 "msg"="API request" "uid"=%d "gid"=%d "pid"=%d "method"="PUT" "path"="/v1/secrets/token"`, os.Getuid(), os.Getgid(), os.Getpid())}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRequestLimits(t *testing.T) {
	socket, _ := serve(t, servertest.New(servertest.State{}))
	c := client.New(socket)
	if err := c.SetSecret(t.Context(), "big", make([]byte, wire.MaxSecret+1)); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a secret that is too large: %v", err)
	}
	if err := c.SetSecret(t.Context(), "ok", make([]byte, wire.MaxSecret)); err != nil {
		t.Errorf("the largest secret: %v", err)
	}
	h := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}}
	for _, tc := range []struct{ method, path, body, want string }{
		{"POST", "/v1/plan", "{", "no valid JSON"},
		{"GET", "/v2/objects", "", "tekton version"},
		{"GET", "/v1/objects/Container/web/logs?tail=x", "", "no number"},
		{"POST", "/v1/objects/Container/web/exec", `{"command":["true"]}`, "tekton-exec/1"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tc.method, "http://x"+tc.path, strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := h.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode < 400 || !strings.Contains(string(body), tc.want) {
			t.Errorf("%s %s: %s %s, want an error with %q", tc.method, tc.path, resp.Status, body, tc.want)
		}
	}
}

// Events that are followed are told once, in their order, also those that came before.
func TestEventsAreFollowed(t *testing.T) {
	b := servertest.New(servertest.State{Events: []v1alpha1.Event{{Seq: 1, Reason: "A"}, {Seq: 2, Reason: "B"}}})
	socket, _ := serve(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got string
	for e, err := range client.New(socket).Events(ctx, 1, true) {
		if err != nil {
			t.Fatal(err)
		}
		if got += e.Reason; e.Reason == "B" {
			b.Update(func(s *servertest.State) { s.Events = append(s.Events, v1alpha1.Event{Seq: 3, Reason: "C"}) })
		}
		if e.Reason == "C" {
			break
		}
	}
	if got != "BC" {
		t.Errorf("got %s", got)
	}
	for _, err := range client.New(socket).Events(ctx, 3, false) {
		t.Errorf("after the last event: %v", err)
	}
}
