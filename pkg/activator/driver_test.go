package activator

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
)

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s for %s by %s, gate %q: %s", r.Method, r.RequestURI, r.Host, r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"),
		r.Header.Get(resource.GateHeader), body)
}

// TestContract: put, observe, put again, delete; nothing is left.
func TestContract(t *testing.T) {
	r := newRig(t)
	r.apply(put(process()))
	r.apply(put(gateOf(backend, time.Minute)))
	observed := resource.Observed(r.driver.Observe(t.Context()))
	for _, want := range []resource.Resource{process(), gateOf(backend, time.Minute)} {
		if have, present, _ := observed.Get(want.ID); !present || !want.Equal(have) {
			t.Errorf("%s is %+v, present %v", want.ID, have, present)
		}
	}
	before, err := os.Stat(r.driver.tablePath())
	if err != nil {
		t.Fatal(err)
	}
	r.apply(put(process()), put(gateOf(backend, time.Minute)))
	if after, err := os.Stat(r.driver.tablePath()); err != nil || !os.SameFile(before, after) {
		t.Errorf("the same again was written anew (%v)", err)
	}
	r.serve(echo)
	if code, text := r.ask("POST", "/a%2fb?x=1;y", strings.NewReader("body"), func(q *http.Request) {
		q.Header.Set("X-Forwarded-For", "192.0.2.1")
		q.Header.Set("X-Forwarded-Proto", "https")
	}); code != 200 || text != `POST /a%2fb?x=1;y web.example.org for 192.0.2.1 by https, gate "": body` {
		t.Errorf("the machine was asked %d %s", code, text)
	}
	st, _, err := r.driver.opts.Supervisor.Status(r.driver.dir)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", st.PID)); err != nil || regexp.MustCompile(`(?m)^(Uid|Gid):.*\t0\b|^Groups:\t0\b`).Match(b) {
		t.Errorf("the process serves as root (%v):\n%s", err, b)
	}
	r.apply(del(gateOf(backend, time.Minute)))
	r.apply(del(process()))
	if d := r.driver.Observe(t.Context()); len(d[resource.KindActivator].Items)+len(d[resource.KindGate].Items) != 0 {
		t.Errorf("left: %v", d)
	}
	if _, err := os.Stat(r.driver.dir); !os.IsNotExist(err) {
		t.Errorf("its directory is left (%v)", err)
	}
}

// TestSleepsAndWakes: after the time without a request it sleeps, told by
// itself; a killed process forgets neither that nor a wake; who waits is served
// by the machine, once, with all that was sent.
func TestSleepsAndWakes(t *testing.T) {
	r := newRig(t)
	var told atomic.Int64
	go r.driver.Watch(t.Context(), func() { told.Add(1) })
	const after = 500 * time.Millisecond
	r.apply(put(process()), put(gateOf(backend, after)))
	stop := r.serve(echo)
	var seen int64
	for range 20 { // requests keep it awake for longer than it needs to fall asleep
		asked := time.Now()
		seen = told.Load()
		if code, _ := r.ask("GET", "/", nil, nil); code != 200 {
			t.Fatalf("answered %d", code)
		}
		time.Sleep(after / 10)
		if g, _ := r.gate(); g.Asleep && time.Since(asked) < after {
			t.Fatal("it fell asleep while somebody asked")
		}
	}
	r.eventually("it sleeps", func() bool { g, _ := r.gate(); return g.Asleep && !g.Since.IsZero() })
	r.eventually("the daemon is told", func() bool { return told.Load() > seen })
	stop()
	r.apply(put(gateOf(netip.Addr{}, after)))
	r.kill()
	if code, text := r.ask("HEAD", "/", nil, nil); code != 200 {
		t.Errorf("a health check is answered %d %s", code, text)
	}
	if g, _ := r.gate(); !g.Asleep {
		t.Fatal("a killed process or a health check has woken it")
	}
	answer := make(chan string, 1)
	go func() {
		code, text := r.ask("POST", "/held", strings.NewReader("all of it"), nil)
		answer <- fmt.Sprint(code, " ", text)
	}()
	r.eventually("it wakes", func() bool { g, _ := r.gate(); return !g.Asleep })
	if code, text := r.ask("GET", "/", nil, browser); code != 503 || !strings.Contains(text, `http-equiv="refresh"`) || !strings.Contains(text, "Preview/web") {
		t.Errorf("a browser is shown %d %s", code, text)
	}
	r.serve(echo)
	r.apply(put(gateOf(backend, after)))
	select {
	case got := <-answer:
		if !strings.Contains(got, "200 POST /held") || !strings.HasSuffix(got, ": all of it") {
			t.Errorf("who waited got %s", got)
		}
	case <-time.After(10 * time.Second):
		t.Error("who waited was not served")
	}
}

// kill ends the process as a crash does; the driver starts it again.
func (r *rig) kill() {
	r.t.Helper()
	st, _, err := r.driver.opts.Supervisor.Status(r.driver.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := syscall.Kill(st.PID, syscall.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
	r.eventually("its end is seen", func() bool {
		st, _, err := r.driver.opts.Supervisor.Status(r.driver.dir)
		return err == nil && !st.Running
	})
	r.apply(put(process()))
}

// TestUpgraded: an upgraded connection is a request under way, and passes both ways.
func TestUpgraded(t *testing.T) {
	r := newRig(t)
	const after = 300 * time.Millisecond
	r.apply(put(process()), put(gateOf(backend, after)))
	r.serve(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "echo")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.Copy(conn, conn)
	})
	conn, err := net.Dial("tcp", listen.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: echo\r\n%s: web:%d\r\n\r\n", resource.GateHeader, backendPort)
	in := bufio.NewReader(conn)
	if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v %v", res, err)
	}
	time.Sleep(4 * after)
	fmt.Fprintln(conn, "still here")
	if line, err := in.ReadString('\n'); err != nil || line != "still here\n" {
		t.Errorf("the connection says %q %v", line, err)
	}
	if g, _ := r.gate(); g.Asleep {
		t.Error("it fell asleep over an open connection")
	}
	conn.Close()
	r.eventually("it sleeps when the connection has ended", func() bool { g, _ := r.gate(); return g.Asleep })
}

// TestDamaged: while it cannot be read who sleeps, nobody is awake or asleep.
func TestDamaged(t *testing.T) {
	r := newRig(t)
	r.apply(put(process()), put(gateOf(backend, time.Minute)))
	file := filepath.Join(r.driver.dir, stateDir, stateFile)
	for name, damage := range map[string]func() error{
		"torn":   func() error { return os.WriteFile(file, []byte(`{"version":1,`), 0o600) },
		"newer":  func() error { return os.WriteFile(file, []byte(`{"version":9}`), 0o600) },
		"a link": func() error { os.Remove(file); return os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), file) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		d := r.driver.Observe(t.Context())[resource.KindGate]
		if len(d.Items) != 0 || d.Unreadable["web"] == nil || d.Err != nil {
			t.Errorf("%s: observed %+v", name, d)
		}
	}
}

// TestSwapped: what takes the place of the state while it is read is not waited for.
func TestSwapped(t *testing.T) {
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, stateDir, stateFile), filepath.Join(dir, stateDir, "fifo")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(`{"version":1}`), 0o600), unix.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for range 5000 {
			readState(dir)
		}
	}()
	for deadline := time.After(10 * time.Second); ; {
		select {
		case <-read:
			return
		case <-deadline:
			t.Fatal("a FIFO in the place of the state is waited for")
		default:
			if err := unix.Renameat2(unix.AT_FDCWD, file, unix.AT_FDCWD, fifo, unix.RENAME_EXCHANGE); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestWatchBegins: what has changed before the watch stands is not missed.
func TestWatchBegins(t *testing.T) {
	r := newRig(t)
	if err := os.MkdirAll(filepath.Join(r.driver.dir, stateDir), 0o711); err != nil {
		t.Fatal(err)
	}
	told := make(chan struct{}, 100)
	go r.driver.Watch(t.Context(), func() { told <- struct{}{} })
	select {
	case <-told:
	case <-time.After(10 * time.Second):
		t.Error("nobody is told to look once the watch stands")
	}
}
