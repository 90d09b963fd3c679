package statuspage

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/server/servertest"
)

// listen to a stream. next waits for a line that begins so.
func (r *rig) listen(path string) (next func(prefix string) string, hang func()) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := (&http.Client{Jar: r.browser.Jar}).Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		r.t.Fatalf("%s: %s", path, resp.Status)
	}
	lines := make(chan string, 100)
	go func() {
		defer resp.Body.Close()
		in := bufio.NewScanner(resp.Body)
		in.Buffer(nil, 4*maxLine)
		for in.Scan() {
			lines <- in.Text()
		}
	}()
	return func(prefix string) string {
		r.t.Helper()
		for end := time.After(20 * time.Second); ; {
			select {
			case line := <-lines:
				if strings.HasPrefix(line, prefix) {
					return line
				}
			case <-end:
				r.t.Fatalf("%s: no line %q", path, prefix)
			}
		}
	}, cancel
}

// TestLive: who looks is told of a change, and of its event in words.
func TestLive(t *testing.T) {
	r := newRig(t, populated(time.Now()))
	next, _ := r.listen("/live")
	next(": alive")
	r.backend.Update(func(s *servertest.State) {
		s.Events = append(s.Events, v1alpha1.Event{Seq: 107, Object: v1alpha1.Ref{Kind: "Container", Name: "billing"}, Reason: "Ready", Message: "line\none \x1b"})
	})
	next("event: change")
	next("event: told")
	if got := next("data: "); got != `data: "container/billing: Ready. line\\none \\x1b"` {
		t.Errorf("told %s", got)
	}
	if _, body := r.get("/"); !strings.Contains(body, `id="event-107"`) {
		t.Error("the event is not on the page")
	}
	// A daemon that is back tells all of its events anew, some first.
	v, _ := r.server.mirror.View()
	for _, n := range []int{1, len(v.Events)} {
		r.server.mirror.update(func(now *View) { now.Events = v.Events[:n] })
		next("event: change")
	}
	r.backend.Update(func(s *servertest.State) {
		s.Events = append(s.Events, v1alpha1.Event{Seq: 108, Object: v1alpha1.Ref{Kind: "Container", Name: "shop"}, Reason: "Ready"})
	})
	next("event: told")
	if got := next("data: "); got != `data: "container/shop: Ready"` {
		t.Errorf("after the daemon was away, told %s", got)
	}
}

// TestLogsAsTheyCome: lines come as they are printed, escaped.
func TestLogsAsTheyCome(t *testing.T) {
	state := populated(time.Now())
	out, in := io.Pipe()
	state.LogReader = func(v1alpha1.Ref) io.ReadCloser { return out }
	r := newRig(t, state)
	r.signIn()
	next, hang := r.listen("/objects/Container/shop/logs/stream")
	io.WriteString(in, "first\n<b>\x1b[2J\tsecond\r\n")
	next("event: lines")
	if got := next("data: "); got != `data: ["first","\u003cb\u003e\\x1b[2J\tsecond"]` {
		t.Errorf("%s", got)
	}
	io.WriteString(in, strings.Repeat("x", maxLine+10)+"\n")
	if got := next("data: "); !strings.HasPrefix(got, `data: ["xxx`) {
		t.Errorf("%.80s", got)
	}
	hang()
	r.eventually("the log is closed when its reader goes", func() bool {
		_, err := io.WriteString(in, "more\n")
		return err != nil
	})
	r.eventually("its place is free", func() bool { return len(r.server.logStreams) == 0 })
}

// TestWhoTakesNothing is let go, and his place is free for others.
func TestWhoTakesNothing(t *testing.T) {
	state := populated(time.Now())
	out, in := io.Pipe()
	state.LogReader = func(v1alpha1.Ref) io.ReadCloser { return out }
	r := newRig(t, state, func(c *Config) { c.OpenLogs = true })
	r.server.sendTimeout = 200 * time.Millisecond
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /objects/Container/shop/logs/stream HTTP/1.1\r\nHost: %s\r\n\r\n", strings.TrimPrefix(r.url, "http://"))
	sent, begin := 0, time.Now()
	for line := []byte(strings.Repeat("x", 60<<10) + "\n"); err == nil && sent < 1<<10; sent++ {
		_, err = in.Write(line)
	}
	if took := time.Since(begin); err == nil || took > writeTimeout/2 {
		t.Errorf("%d lines were taken for somebody who takes none, for %s", sent, took)
	}
	r.eventually("the place is free", func() bool { return len(r.server.logStreams) == 0 })
}

// TestStreamsAreBounded: there are as many as there may be, the next is told so, and
// pages are served beside them.
func TestStreamsAreBounded(t *testing.T) {
	r := newRig(t, populated(time.Now()))
	for range maxStreams {
		next, _ := r.listen("/live")
		next(": alive")
	}
	if status, body := r.get("/live"); status != http.StatusServiceUnavailable || !strings.Contains(body, "Reload the page") {
		t.Errorf("one more: %d %s", status, body)
	}
	if status, _ := r.get("/"); status != http.StatusOK {
		t.Errorf("a page beside them: %d", status)
	}
}

// TestLogPagesAreBounded: who asks for many logs at once has few of them made at a
// time; the others come when it is their turn.
func TestLogPagesAreBounded(t *testing.T) {
	state := populated(time.Now())
	var opened atomic.Int32
	out, in := io.Pipe()
	state.LogReader = func(v1alpha1.Ref) io.ReadCloser {
		opened.Add(1)
		return io.NopCloser(out)
	}
	r := newRig(t, state, func(c *Config) { c.OpenLogs = true })
	var asking sync.WaitGroup
	for range maxLogPages + 3 {
		asking.Go(func() {
			resp, err := r.browser.Get(r.url + "/objects/Container/shop/logs")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("%s, %v: %.200s", resp.Status, err, text)
			}
		})
	}
	r.eventually("as many as may are made", func() bool { return opened.Load() >= maxLogPages })
	time.Sleep(100 * time.Millisecond)
	if n := opened.Load(); n != maxLogPages {
		t.Errorf("%d are made at a time", n)
	}
	if status, _ := r.get("/"); status != http.StatusOK {
		t.Errorf("a page beside them: %d", status)
	}
	in.Close()
	asking.Wait()
}

func TestLastOf(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"", ""}, {"one\n", "one\n"}, {"0123456789", "0123456789"}, {"one\ntwo\nthrees\n", "threes\n"},
		{"one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\n", "nine\nten\n"}, {strings.Repeat("x", 95) + "yz", "xxxxxxxxyz"},
	} {
		if got, err := lastOf(iotest.OneByteReader(strings.NewReader(tc.text)), 10); err != nil || got != tc.want {
			t.Errorf("of %q: %q, %v", tc.text, got, err)
		}
	}
	if _, err := lastOf(iotest.ErrReader(io.ErrUnexpectedEOF), 10); err != io.ErrUnexpectedEOF {
		t.Error(err)
	}
}

// TestOnePlanForAll: the daemon makes no plan for each who looks.
func TestOnePlanForAll(t *testing.T) {
	r := newRig(t, populated(time.Now()))
	now := time.Now()
	r.server.now = func() time.Time { return now }
	for range 5 {
		if status, body := r.get("/plan"); status != http.StatusOK || !strings.Contains(body, "spec.command") {
			t.Fatalf("%d %s", status, body)
		}
	}
	made := 0
	for _, c := range r.backend.Calls() {
		if strings.HasPrefix(c, "Plan") {
			made++
		}
	}
	if made != 1 {
		t.Errorf("%d plans were made", made)
	}
}
