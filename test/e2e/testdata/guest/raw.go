package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// rawName is a second interface on the machine's link.
const rawName = "raw0"

// A machine's root has no raw sockets, but where user namespaces nest it can
// get them: in a namespace of its own it has all capabilities, and a macvlan of
// the machine's link moves there. What it writes leaves by that link as it is.
var attacker struct {
	sync.Mutex
	stdin *os.File
	heard []string
}

// rawSend sends the frames of the form's field, and says how often that worked.
func rawSend(r *http.Request) (string, error) {
	attacker.Lock()
	defer attacker.Unlock()
	if attacker.stdin == nil {
		if err := startRaw(); err != nil {
			return "", err
		}
	}
	for frame := range strings.FieldsSeq(r.FormValue("frames")) {
		if _, err := fmt.Fprintln(attacker.stdin, frame); err != nil {
			return "", err
		}
	}
	return "", nil
}

// rawHeard lists the frames that came to the second interface.
func rawHeard(*http.Request) (string, error) {
	attacker.Lock()
	defer attacker.Unlock()
	return strings.Join(attacker.heard, "\n"), nil
}

func startRaw() error {
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	cmd := exec.Command("/proc/self/exe", "raw")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET, UidMappings: ids, GidMappings: ids, Pdeathsig: syscall.SIGKILL}
	in, stdin, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stdin, cmd.Stderr = in, os.Stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("nest a user namespace: %w", err)
	}
	link, err := netlink.LinkByName("host0")
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.Namespace = rawName, link.Attrs().Index, netlink.NsPid(cmd.Process.Pid)
	if err := netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}); err != nil {
		return errors.Join(fmt.Errorf("add %s: %w", rawName, err), cmd.Process.Kill())
	}
	attacker.stdin = stdin
	fmt.Fprintln(stdin) // the interface is there
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			attacker.Lock()
			attacker.heard = append(attacker.heard, lines.Text())
			attacker.Unlock()
		}
	}()
	return nil
}

// rawLoop sends the frames that it reads, and writes those that it hears.
func rawLoop() error {
	frames := bufio.NewScanner(os.Stdin)
	frames.Scan()
	link, err := netlink.LinkByName(rawName)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	to := &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: link.Attrs().Index} // ETH_P_ALL
	if err := unix.Bind(fd, to); err != nil {
		return err
	}
	fmt.Println(link.Attrs().HardwareAddr)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err == nil {
				fmt.Println(hex.EncodeToString(buf[:n]))
			}
		}
	}()
	for frames.Scan() {
		b, err := hex.DecodeString(frames.Text())
		if err == nil {
			err = unix.Sendto(fd, b, 0, to)
		}
		if err != nil {
			return fmt.Errorf("send %s: %w", frames.Text(), err)
		}
	}
	return frames.Err()
}
