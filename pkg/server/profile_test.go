package server_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/server/servertest"
	"tekton.host/pkg/server/wire"
)

func TestProfile(t *testing.T) {
	testenv.Root(t)
	socket, _ := serve(t, servertest.New(servertest.State{}))
	// As open as a group's socket is to the group.
	for _, path := range []string{socket, filepath.Dir(socket)} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		uid        int
		path, want string
		status     int
	}{
		{0, "/goroutine?debug=1", "goroutine profile: total ", http.StatusOK},
		{0, "/heap?debug=1&gc=1", "# HeapAlloc = ", http.StatusOK},
		{0, "/heap", "\x1f\x8b", http.StatusOK},
		{0, "/nothing", "there is no profile", http.StatusNotFound},
		{0, "/heap?debug=x", "no number", http.StatusUnprocessableEntity},
		{65534, "/goroutine?debug=1", "root alone", http.StatusForbidden},
	} {
		status, body := getAs(t, tc.uid, socket, wire.PathProfile+tc.path)
		if status != tc.status || !strings.Contains(body, tc.want) {
			t.Errorf("%s as %d: %d %.80q, want %d with %q", tc.path, tc.uid, status, body, tc.status, tc.want)
		}
	}
}

// getAs asks as a user: the kernel tells the server who connected.
func getAs(t *testing.T, uid int, socket, path string) (int, string) {
	t.Helper()
	var conn net.Conn
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with its identity
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			err = errno
			return
		}
		conn, err = net.Dial("unix", socket)
	}()
	<-done
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://x"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
