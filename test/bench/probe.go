package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// lookEvery is the pause between two tries; both sides pay for it.
	lookEvery = 2 * time.Millisecond
	// dialLimit is short: what is sent before a machine has its end is lost, and
	// sent again by the kernel only after a second.
	dialLimit = 15 * time.Millisecond
	waitLimit = 2 * time.Minute
)

// answers reports whether a GET is answered with 200.
func answers(at netip.AddrPort, host string) bool {
	conn, err := net.DialTimeout("tcp", at.String(), dialLimit)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprintf(conn, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", host)
	head := make([]byte, 16)
	_, err = io.ReadFull(conn, head[:12])
	return err == nil && bytes.HasSuffix(head[:12], []byte(" 200"))
}

// greets reports whether an sshd says its version.
func greets(at netip.AddrPort) bool {
	conn, err := net.DialTimeout("tcp", at.String(), dialLimit)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	head := make([]byte, 8)
	_, err = io.ReadFull(conn, head)
	return err == nil && string(head) == "SSH-2.0-"
}

// awaitAnswer returns when at answers.
func awaitAnswer(at netip.AddrPort, host string) (time.Time, error) {
	return await(at, func() bool { return answers(at, host) })
}

func await(at netip.AddrPort, answered func() bool) (time.Time, error) {
	for end := time.Now().Add(waitLimit); time.Now().Before(end); time.Sleep(lookEvery) {
		if answered() {
			return time.Now(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%s did not answer within %s", at, waitLimit)
}

// slotsOf lists the slots that have a link.
func slotsOf(prefix string) map[int]bool {
	slots := map[int]bool{}
	dir, err := os.Open(filepath.Join(os.Getenv("BENCH_DIR"), "sys/class/net"))
	if err != nil {
		return slots
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, n := range names {
		if rest, ok := strings.CutPrefix(n, prefix); ok {
			if slot, err := strconv.Atoi(rest); err == nil {
				slots[slot] = true
			}
		}
	}
	return slots
}

// awaitMachines returns when n machines with new links have answered. The
// addresses follow from the links' names: nobody is asked, and so nobody is
// slowed down.
func awaitMachines(prefix string, old map[int]bool, n int, addr func(slot int) netip.Addr, p payload) (last time.Time, err error) {
	type result struct {
		at  time.Time
		err error
	}
	results := make(chan result)
	seen := 0
	for end := time.Now().Add(waitLimit); seen < n; time.Sleep(lookEvery) {
		if time.Now().After(end) {
			return last, fmt.Errorf("%d of %d links within %s", seen, n, waitLimit)
		}
		for slot := range slotsOf(prefix) {
			if old[slot] {
				continue
			}
			old[slot], seen = true, seen+1
			go func() {
				to := netip.AddrPortFrom(addr(slot), p.port)
				at, err := await(to, func() bool { return p.answered(to) })
				results <- result{at, err}
			}()
		}
	}
	for range n {
		r := <-results
		if r.err != nil {
			err = r.err
		}
		if r.at.After(last) {
			last = r.at
		}
	}
	return last, err
}
