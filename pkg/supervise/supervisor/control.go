package supervisor

import (
	"encoding/json"
	"net"
	"os"
	"syscall"

	"tekton.host/pkg/supervise/contract"
)

// call is a request with the way back to who asked.
type call struct {
	contract.Request
	reply chan contract.Response
}

// listenControl opens the control socket, for root only. The path is relative
// to the working directory, so its length does not matter.
func listenControl() (net.Listener, error) {
	_ = os.Remove(contract.ControlFile)
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	return net.Listen("unix", contract.ControlFile)
}

// serveControl answers connections until the listener is closed.
func serveControl(l net.Listener, calls chan<- call) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go answer(conn, calls)
	}
}

func answer(conn net.Conn, calls chan<- call) {
	defer conn.Close()
	in, out := json.NewDecoder(conn), json.NewEncoder(conn)
	for {
		c := call{reply: make(chan contract.Response, 1)}
		if err := in.Decode(&c.Request); err != nil {
			return
		}
		calls <- c
		if err := out.Encode(<-c.reply); err != nil {
			return
		}
	}
}
