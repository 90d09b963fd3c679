package host_test

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"tekton.host/pkg/host"
)

// execs is how often the process of TestProcessStart is to become another program.
const execs = "TEKTON_TEST_EXECS"

func TestMain(m *testing.M) {
	left, err := strconv.Atoi(os.Getenv(execs))
	if err != nil {
		os.Exit(m.Run())
	}
	if left == 0 {
		os.Stdout.WriteString(".")
		time.Sleep(time.Hour) // it is killed
	}
	os.Setenv(execs, strconv.Itoa(left-1))
	runtime.LockOSThread() // the first thread is kept here, so that another one does it
	go func() {
		runtime.LockOSThread()
		panic(syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
	}()
	time.Sleep(time.Hour)
}

// TestProcessStart: while a program with threads executes another one, as a
// machine's first process does with its init, its first thread is a zombie. The
// process has not ended by that.
func TestProcessStart(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), execs+"=150")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	last := make(chan error, 1)
	go func() {
		_, err := out.Read(make([]byte, 1))
		last <- err
	}()
	first, err := host.ProcessStart(cmd.Process.Pid)
	for again := true; again; {
		start, e := host.ProcessStart(cmd.Process.Pid)
		if err != nil || e != nil || start != first {
			t.Fatalf("%s, %v, %v; want %s", start, err, e, first)
		}
		select {
		case err = <-last:
			again = false
		default:
		}
	}
	if err != nil {
		t.Error(err)
	}
	cmd.Process.Kill()
	syscall.Wait4(-1, nil, 0, nil)
	if _, err := host.ProcessStart(cmd.Process.Pid); err == nil {
		t.Error("a process that has ended is there")
	}
}
