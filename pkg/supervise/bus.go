package supervise

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/coreos/go-systemd/v22/dbus"
)

// Bus is a connection to the host's systemd that is made when it is needed, and
// anew when it broke.
type Bus struct {
	// Connected is called with each new connection. Optional.
	Connected func(*dbus.Conn)

	mu   sync.Mutex
	conn *dbus.Conn
}

// Connect returns a living connection: systemd's own socket, which needs no
// message bus, else the bus.
func (b *Bus) Connect(ctx context.Context) (*dbus.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != nil && b.conn.Connected() {
		return b.conn, nil
	}
	if b.conn != nil {
		b.conn.Close()
		b.conn = nil
	}
	// The connection outlives this call, so it must not end with its context.
	conn, err := dbus.NewSystemdConnectionContext(context.WithoutCancel(ctx))
	if err != nil {
		var busErr error
		if conn, busErr = dbus.NewSystemConnectionContext(context.WithoutCancel(ctx)); busErr != nil {
			return nil, fmt.Errorf("connect to systemd: %w", errors.Join(err, busErr))
		}
	}
	if b.Connected != nil {
		b.Connected(conn)
	}
	if err := conn.Subscribe(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("subscribe to systemd's signals: %w", err)
	}
	b.conn = conn
	return conn, nil
}

// Close ends the connection; the next Connect makes another.
func (b *Bus) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != nil {
		b.conn.Close()
		b.conn = nil
	}
}
