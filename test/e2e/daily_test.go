package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTop reads what machines use, of the kernel's own counters.
func TestTop(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("a.yaml", k.guest("idle"), k.guest("busy", "routes: [{host: busy.test, port: 8080}]"), k.guest("off", "enabled: false"))
	k.ready("idle", "busy")
	l := k.load("busy.test")
	k.eventually("the busy one is seen", func() error {
		var report struct {
			Items []struct {
				Name                                         string
				CPUPercent, ReceivedPerSecond, SentPerSecond float64
				Memory                                       int64
				Tasks                                        int
			}
		}
		if err := json.Unmarshal([]byte(k.must("top", "-o", "json", "--interval", "500ms")), &report); err != nil {
			return err
		}
		if len(report.Items) != 2 || report.Items[0].Name != "busy" {
			return fmt.Errorf("not first: %+v", report)
		}
		busy, idle := report.Items[0], report.Items[1]
		switch {
		case busy.CPUPercent <= idle.CPUPercent || busy.ReceivedPerSecond < 1000 || busy.SentPerSecond < 1000:
			return fmt.Errorf("not busy: %+v", report)
		case idle.Memory < 1<<20 || idle.Memory > 1<<30 || idle.Tasks < 3:
			return fmt.Errorf("no memory, no tasks: %+v", report)
		}
		return nil
	})
	l.end(t)
}

// TestCopy copies into, between and out of machines that have no tar.
func TestCopy(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("a.yaml", k.guest("a", "volumes: [{name: data, path: /data, deletionPolicy: Delete}]"), k.guest("b"))
	k.ready("a", "b")
	site := k.path("site")
	k.check(os.MkdirAll(filepath.Join(site, "deep"), 0o755))
	k.check(os.WriteFile(filepath.Join(site, "deep", "page"), bytes.Repeat([]byte("page\n"), 1<<20), 0o640))
	k.must("cp", site, "a:/data")
	if got := k.mustAsk("a", "/stat", "path", "/data/site/deep/page"); !strings.Contains(got, "640") {
		t.Errorf("in the machine: %s", got)
	}
	k.must("cp", "a:/data/site", "container/b:/copy")
	k.must("cp", "b:/copy/deep/page", k.path("page"))
	if got, err := os.ReadFile(k.path("page")); err != nil || len(got) != 5<<20 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	for want, args := range map[string][]string{
		"in container/a: stat /nothing: no such file or directory": {"a:/nothing", k.path("x")},
		"stat " + k.path("nothing") + ": no such file":             {k.path("nothing"), "a:/x"},
		"in container/a: ":     {site, "a:/not/there"},
		"there is no object c": {"c:/x", k.path("x")},
	} {
		if _, err := k.run(append([]string{"cp"}, args...)...); err == nil || !strings.Contains(err.Error(), "error: "+want) {
			t.Errorf("cp %q: %v, want %q", args, err, want)
		}
	}
}

// TestPortForward asks a machine through a port of this host.
func TestPortForward(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("a.yaml", k.guest("a"))
	k.ready("a")
	cmd := exec.Command(filepath.Join(k.programs, "tekton"), "--socket", k.path("run/tekton.sock"), "port-forward", "a", "0:8081", "0:9")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	k.check(err)
	k.check(cmd.Start())
	lines := bufio.NewScanner(out)
	var addresses []string
	for len(addresses) < 2 && lines.Scan() {
		address, _, _ := strings.Cut(lines.Text(), " ")
		addresses = append(addresses, address)
	}
	if len(addresses) < 2 {
		t.Fatalf("it said nothing of where it listens: %s", &complaints)
	}
	for range 3 {
		_, body, err := fetch("http://"+addresses[0]+"/slow?n=5", "")
		if err != nil || !strings.HasSuffix(string(body), "end\n") {
			t.Fatalf("%v: %q", err, body)
		}
	}
	conn, err := net.Dial("tcp", addresses[1])
	k.check(err)
	if answer, err := io.ReadAll(conn); len(answer) > 0 {
		t.Errorf("nobody listens there: %q, %v", answer, err)
	}
	conn.Close()
	k.check(cmd.Process.Signal(os.Interrupt))
	if err := cmd.Wait(); exitCode(err) != 130 || !strings.Contains(complaints.String(), "connect to port 9 of container/a: ") || !strings.Contains(complaints.String(), "tekton logs container/a") {
		t.Errorf("%v, it said: %s", err, &complaints)
	}
}
