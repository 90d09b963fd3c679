package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// runMain has the test program be tekton-status.
const runMain = "TEKTON_TEST_STATUS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func program(args ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd, out := exec.Command(os.Args[0], args...), &bytes.Buffer{}
	cmd.Env = append(os.Environ(), runMain+"=1")
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// TestExitCodes: what does not get better by trying again is 78, so that its unit
// does not; a check that fails is 1.
func TestExitCodes(t *testing.T) {
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "status.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	right := file("socket: /nowhere/read.sock\n")
	for name, tc := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no configuration": {[]string{"--config", "/nowhere/status.yaml"}, 78, "no such file"},
		"a wrong one":      {[]string{"--config", file("listen: 0.0.0.0:80\n")}, 78, "must be a loopback address"},
		"a wrong flag":     {[]string{"--colour"}, 78, "unknown flag"},
		"no daemon":        {[]string{"--config", right, "--check"}, 1, "there is no socket /nowhere/read.sock. Is tektond running"},
		"root":             {[]string{"--config", right}, 78, "refuses to have them"},
	} {
		if name == "root" && os.Geteuid() != 0 {
			continue
		}
		cmd, out := program(tc.args...)
		err, _ := errors.AsType[*exec.ExitError](cmd.Run())
		if err == nil || err.ExitCode() != tc.code || !strings.Contains(out.String(), tc.want) {
			t.Errorf("%s: %v %s", name, err, out)
		}
	}
}

// TestServe: it serves without a daemon, says so, and ends when it is told to.
func TestServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	config := filepath.Join(t.TempDir(), "status.yaml")
	if err := os.WriteFile(config, []byte("listen: "+address+"\nsocket: /nowhere/read.sock\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, out := program("--config", config, "--allow-root")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	body := ""
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(body, "The daemon is not heard"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it shows %q", body)
		}
		if resp, err := http.Get("http://" + address + "/"); err == nil {
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			body = string(text)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("told to end, it ends with %v, %s", err, out)
	}
}
