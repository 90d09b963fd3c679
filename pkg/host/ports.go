package host

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Listener is a socket that takes what comes to an address of the host.
type Listener struct {
	Protocol string // tcp, udp
	Addr     netip.AddrPort
	inode    string
}

// Takes reports whether the socket has a port, on the address or on all of
// them; the zero address asks for any.
func (l Listener) Takes(protocol string, addr netip.Addr, port int) bool {
	have := l.Addr.Addr()
	return l.Protocol == protocol && int(l.Addr.Port()) == port &&
		(!addr.IsValid() || have.IsUnspecified() || have == addr)
}

// listening are the tables of sockets and the state of those that listen.
var listening = []struct{ table, protocol, state string }{
	{"tcp", "tcp", "0A"}, {"tcp6", "tcp", "0A"}, {"udp", "udp", "07"}, {"udp6", "udp", "07"},
}

// Listeners reads the sockets of this network namespace. proc is /proc.
func Listeners(proc string) ([]Listener, error) {
	var found []Listener
	for _, l := range listening {
		f, err := os.Open(filepath.Join(proc, "net", l.table))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) <= 9 || fields[3] != l.state {
				continue
			}
			if addr, ok := socketAddr(fields[1]); ok {
				found = append(found, Listener{l.protocol, addr, fields[9]})
			}
		}
		if err := errors.Join(lines.Err(), f.Close()); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// socketAddr reads "0100007F:0035": words in the processor's order, the port not.
func socketAddr(s string) (netip.AddrPort, bool) {
	text, portText, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(text)
	port, errPort := strconv.ParseUint(portText, 16, 16)
	if err != nil || errPort != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for word := range slices.Chunk(b, 4) {
		slices.Reverse(word)
	}
	addr, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), ok
}

// Holder names a process that has one of the sockets, and is not ours; "" when
// only ours has.
func Holder(proc string, listeners []Listener, ours ...int) string {
	inodes := map[string]bool{}
	for _, l := range listeners {
		inodes[l.inode] = true
	}
	found := len(listeners) == 0
	dirs, _ := filepath.Glob(filepath.Join(proc, "[0-9]*"))
	for _, dir := range dirs {
		if !holds(dir, inodes) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if !slices.Contains(ours, pid) {
			name, _ := os.ReadFile(filepath.Join(dir, "comm"))
			return fmt.Sprintf("%s (process %d)", strings.TrimSpace(string(name)), pid)
		}
		found = true
	}
	if !found {
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
