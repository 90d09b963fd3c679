package e2e_test

import (
	"maps"
	"net"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ears note which tokens arrive at which places.
type ears struct {
	t     testing.TB
	mu    sync.Mutex
	heard map[string]map[string]bool // token → places
}

var tokens = regexp.MustCompile(`tk[0-9]+;`)

func (e *ears) note(place string, packet []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, token := range tokens.FindAllString(string(packet), -1) {
		if e.heard[token] == nil {
			e.heard[token] = map[string]bool{}
		}
		e.heard[token][place] = true
	}
}

// where tells the places that have heard a token, "" for nobody.
func (e *ears) where(token string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(e.heard[token])), " ")
}

// host hears what the host's own stack takes for itself, behind every filter
// and on whatever port: raw sockets get a copy of it.
func (e *ears) host() {
	e.t.Helper()
	for _, network := range []string{"ip4:icmp", "ip4:tcp", "ip4:udp", "ip4:4", "ip4:41", "ip4:47", "ip6:58", "ip6:17"} {
		address := "0.0.0.0"
		if strings.HasPrefix(network, "ip6") {
			address = "::"
		}
		c, err := net.ListenPacket(network, address)
		if err != nil {
			e.t.Fatal(err)
		}
		e.t.Cleanup(func() { c.Close() })
		go e.follow("host", func(b []byte) (int, error) { n, _, err := c.ReadFrom(b); return n, err })
	}
}

// place hears every frame that comes into the network namespace of a process.
func (e *ears) place(name string, pid int) {
	e.t.Helper()
	err := inNamespace(pid, func() error {
		// 0x0300 is ETH_P_ALL.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0x0300)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), name)
		e.t.Cleanup(func() { f.Close() })
		go e.follow(name, f.Read)
		return nil
	})
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *ears) follow(place string, read func([]byte) (int, error)) {
	buf := make([]byte, 64<<10)
	for {
		n, err := read(buf)
		if err != nil {
			return
		}
		e.note(place, buf[:n])
	}
}

// inNamespace runs f on a thread in the network namespace of a process.
func inNamespace(pid int, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.GetFromPid(pid)
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}
