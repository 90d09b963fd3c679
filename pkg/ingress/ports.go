package ingress

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"tekton.host/pkg/resource"
)

// stateListen is TCP_LISTEN in /proc/net/tcp.
const stateListen = "0A"

// checkPorts returns an error when another process than ours listens on one of
// the ports. Caddy's own message names no process, and where the other has
// SO_REUSEPORT too there is no message at all: both would be given connections.
func checkPorts(proc string, ours int, ports ...int) error {
	var errs []error
	for _, port := range ports {
		if port == 0 {
			continue
		}
		inodes, err := listeners(proc, port)
		if err != nil || len(inodes) == 0 {
			errs = append(errs, err)
			continue
		}
		if who := holder(proc, inodes, ours); who != "" {
			errs = append(errs, fmt.Errorf("port %d is used by %s: stop it or choose another port in Host.spec.ingress", port, who))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return resource.Because(reasonPort, err)
	}
	return nil
}

// listeners returns the socket inodes that listen on a TCP port.
func listeners(proc string, port int) (map[string]bool, error) {
	inodes := map[string]bool{}
	suffix := fmt.Sprintf(":%04X", port)
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		f, err := os.Open(filepath.Join(proc, table))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) > 9 && fields[3] == stateListen && strings.HasSuffix(fields[1], suffix) {
				inodes[fields[9]] = true
			}
		}
		err = errors.Join(lines.Err(), f.Close())
		if err != nil {
			return nil, err
		}
	}
	return inodes, nil
}

// holder names a process that has one of the sockets; "" when only ours has.
func holder(proc string, inodes map[string]bool, ours int) string {
	found := ""
	dirs, _ := filepath.Glob(filepath.Join(proc, "[0-9]*"))
	for _, dir := range dirs {
		if !holds(dir, inodes) {
			continue
		}
		if pid := filepath.Base(dir); pid == strconv.Itoa(ours) {
			found = pid
		} else {
			name, _ := os.ReadFile(filepath.Join(dir, "comm"))
			return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), pid)
		}
	}
	if found == "" {
		return "a process that is not visible here"
	}
	return ""
}

func holds(dir string, inodes map[string]bool) bool {
	fds, _ := os.ReadDir(filepath.Join(dir, "fd")) // processes end while we look
	for _, fd := range fds {
		target, _ := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
		inode, ok := strings.CutPrefix(target, "socket:[")
		if ok && inodes[strings.TrimSuffix(inode, "]")] {
			return true
		}
	}
	return false
}
