package machine

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/machine/launch"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
	"tekton.host/pkg/supervise/contract"
)

// withLogs is a driver of machines, by owner, with logs that name them.
func withLogs(t *testing.T, owners map[string]string) *Driver {
	t.Helper()
	d := &Driver{opts: Options{Layout: host.Layout{State: t.TempDir()}, Installation: "i"}}
	for name, owner := range owners {
		ordinal, err := strconv.Atoi(name[2:])
		must(t, err)
		must(t, os.MkdirAll(d.dir(name), 0o700))
		must(t, d.writeRecord(name, recordFile{Record: launch.Record{Version: launch.RecordVersion, Mark: d.mark(owner), Instance: resource.Instance{Name: name, Ordinal: ordinal}}}))
		must(t, os.WriteFile(filepath.Join(d.dir(name), supervise.LogFile), []byte(name+"\n"), 0o600))
	}
	return d
}

// previousLog is the text of the log before, or "none".
func previousLog(t *testing.T, d *Driver, machine string) string {
	t.Helper()
	r, err := d.OpenLog(t.Context(), machine, supervise.LogOptions{Tail: -1, Previous: true})
	if errors.Is(err, supervise.ErrNoPrevious) {
		return "none"
	}
	must(t, err)
	defer r.Close()
	text, err := io.ReadAll(r)
	must(t, err)
	return string(text)
}

// Two machines of one object that end together give their logs to the third at
// the same time: that of the later one is kept.
func TestLogsHandedOverTogether(t *testing.T) {
	for range 50 {
		d := withLogs(t, map[string]string{"a-1": "u1", "a-2": "u1", "a-3": "u1"})
		var wg sync.WaitGroup
		for _, name := range []string{"a-1", "a-2"} {
			wg.Go(func() {
				if err := d.handLogOver(name, "u1"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := previousLog(t, d, "a-3"); got != "a-2\n" {
			t.Fatalf("%q", got)
		}
	}
}

// The log of a machine that goes stays with the others of its object.
func TestLogIsHandedOver(t *testing.T) {
	d := withLogs(t, map[string]string{"a-1": "u1", "a-2": "u1", "b-1": "u2"})
	previous := func(machine string) string { t.Helper(); return previousLog(t, d, machine) }
	if got := previous("a-2"); got != "none" {
		t.Errorf("before: %q", got)
	}
	must(t, d.handLogOver("a-1", "u1"))
	must(t, os.Remove(filepath.Join(d.dir("a-1"), supervise.LogFile)))
	must(t, d.handLogOver("a-1", "u1")) // the removal was cut short, and goes on
	if got := previous("a-2"); got != "a-1\n" {
		t.Errorf("after: %q", got)
	}
	// An earlier machine that ends later, as it served what was under way, is not the previous one.
	must(t, os.MkdirAll(d.dir("a-0"), 0o700))
	must(t, d.writeRecord("a-0", recordFile{Record: launch.Record{Version: launch.RecordVersion, Mark: d.mark("u1"), Instance: resource.Instance{Name: "a-0"}}}))
	must(t, os.WriteFile(filepath.Join(d.dir("a-0"), supervise.LogFile), []byte("a-0\n"), 0o600))
	must(t, d.handLogOver("a-0", "u1"))
	if got := previous("a-2"); got != "a-1\n" {
		t.Errorf("after an earlier one has ended later: %q", got)
	}
	if got := previous("b-1"); got != "none" {
		t.Errorf("of another object: %q", got)
	}
	// An own start that was later is the previous one.
	must(t, os.Chtimes(filepath.Join(d.dir("a-2"), previousDir, supervise.LogFile), time.Time{}, time.Unix(100, 0)))
	timesOf(t, d.dir("a-2"), 50, 200)
	if got := previous("a-2"); got != "a-1\n" {
		t.Errorf("the other one was heard of after the own start: %q", got)
	}
	timesOf(t, d.dir("a-2"), 150, 200)
	if got := previous("a-2"); got != "a-2\n" {
		t.Errorf("the own start was heard of last: %q", got)
	}
}

// timesOf writes that a log is of two starts, all of it of the first.
func timesOf(t *testing.T, dir string, first, second int64) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, supervise.LogFile))
	must(t, err)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	header, err := contract.TimesHeader(f)
	must(t, err)
	text := header + contract.Stamp{Second: first, Start: true}.Line() + contract.Stamp{Second: second, Offset: info.Size(), Start: true}.Line()
	must(t, os.WriteFile(filepath.Join(dir, supervise.TimesFile), []byte(text), 0o600))
}

// TestMalformedAnswer: what a machine says instead of HTTP does not fill a status.
func TestMalformedAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			conn.Read(make([]byte, 1<<10)) // of the request
			conn.Write(make([]byte, 1<<20))
			conn.Write([]byte("\n\n"))
			conn.Close()
		}
	}()
	err = probeHTTP(t.Context(), &net.Dialer{}, l.Addr().String(), "/")
	if err == nil || len(err.Error()) > supervise.MaxLine+len("…") || !strings.Contains(err.Error(), "malformed HTTP") {
		t.Errorf("an error of %d bytes: %.200s", len(err.Error()), err)
	}
}
