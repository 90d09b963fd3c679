package wire

import (
	"context"
	"io"
	"sync"
)

// ConnectProtocol is the value of the Upgrade header of a connection to a port
// of a machine: what follows are its bytes, in both directions.
const ConnectProtocol = "tekton-connect/1"

// Duplex is a connection whose directions end each for itself.
type Duplex interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Relay passes on what comes at either end until both have ended, one has
// failed, or ctx ends. It closes both.
func Relay(ctx context.Context, a, b Duplex) {
	end := func() {
		a.Close()
		b.Close()
	}
	defer context.AfterFunc(ctx, end)()
	defer end()
	var both sync.WaitGroup
	pass := func(to, from Duplex) {
		if _, err := io.Copy(to, from); err != nil || to.CloseWrite() != nil {
			end()
		}
	}
	both.Go(func() { pass(a, b) })
	both.Go(func() { pass(b, a) })
	both.Wait()
}
