package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	"tekton.host/pkg/server/wire"
)

// maxConnections to machines at one time, of all clients.
const maxConnections = 256

// connect connects the client with a port of the object's machine.
func (s *Server) connect(w http.ResponseWriter, r *http.Request) error {
	port, err := strconv.ParseUint(r.URL.Query().Get("port"), 10, 16)
	if err != nil || port == 0 {
		return &wire.Error{Code: wire.Invalid, Message: fmt.Sprintf("port=%q is no port", r.URL.Query().Get("port"))}
	}
	if r.Header.Get("Upgrade") != wire.ConnectProtocol {
		return &wire.Error{Code: wire.Invalid, Message: "connect needs a client that speaks " + wire.ConnectProtocol}
	}
	select {
	case s.connections <- struct{}{}:
		defer func() { <-s.connections }()
	default:
		return &wire.Error{Code: wire.Unavailable, Message: fmt.Sprintf("there are %d connections to machines already", maxConnections), Next: "end some of them, then try again"}
	}
	machine, err := s.backend.Dial(r.Context(), pathRef(r), uint16(port))
	if err != nil {
		return err
	}
	to, ok := machine.(wire.Duplex)
	if !ok {
		return errors.Join(errors.New("the connection to the machine has no two directions"), machine.Close())
	}
	s.sessions.Add(1)
	defer s.sessions.Done()
	conn, buffered, err := upgrade(w, wire.ConnectProtocol)
	if err != nil {
		machine.Close()
		return err
	}
	from, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.Join(errors.New("connect is for clients on the socket"), machine.Close(), conn.Close())
	}
	// Read past the buffer: to the HTTP server, the end of one direction is the
	// end of the request.
	early := io.LimitReader(buffered, int64(buffered.Reader.Buffered()))
	wire.Relay(r.Context(), &upgraded{from, io.MultiReader(early, from)}, to)
	return nil
}

// upgraded is a connection of which some bytes may have been read already.
type upgraded struct {
	*net.UnixConn
	in io.Reader
}

func (u *upgraded) Read(b []byte) (int, error) { return u.in.Read(b) }
