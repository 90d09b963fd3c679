package supervisor

import (
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// note is what one datagram on NOTIFY_SOCKET said.
type note struct {
	sender int
	ready  bool
	leader int
}

// listenNotify opens the process's NOTIFY_SOCKET. The address is abstract,
// because a process of another user could not reach one in our directory and
// long paths do not fit into an address; what it says counts only when the
// kernel names the process itself as the sender.
func listenNotify(boot string) (conn *net.UnixConn, address string, err error) {
	address = "@tekton-supervise/" + strconv.Itoa(os.Getpid()) + "/" + boot
	conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return nil, "", err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, "", err
	}
	var optErr error
	err = raw.Control(func(fd uintptr) {
		optErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	})
	if err == nil {
		err = optErr
	}
	return conn, address, err
}

// readNotes delivers what arrives until the socket is closed.
func readNotes(conn *net.UnixConn, out chan<- note) {
	buf := make([]byte, 4096)
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
		if err != nil {
			return
		}
		msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(msgs) == 0 {
			continue
		}
		cred, err := unix.ParseUnixCredentials(&msgs[0])
		if err != nil {
			continue
		}
		out <- parseNote(int(cred.Pid), string(buf[:n]))
	}
}

func parseNote(sender int, text string) note {
	n := note{sender: sender}
	for line := range strings.Lines(text) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), "="); key {
		case "READY":
			n.ready = value == "1"
		case "X_NSPAWN_LEADER_PID":
			n.leader, _ = strconv.Atoi(value)
		}
	}
	return n
}

// tellSystemd says READY=1 to the systemd that runs this supervisor, if one does.
func tellSystemd() {
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("READY=1"))
}
