package server

import (
	"context"
	"net"

	"golang.org/x/sys/unix"
)

type peerKey struct{}

// withPeer keeps who is at the other end of a connection.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}) != nil || err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, *cred)
}

// peerValues are the key/values of a log line about a request.
func peerValues(ctx context.Context) []any {
	cred, ok := ctx.Value(peerKey{}).(unix.Ucred)
	if !ok {
		return nil
	}
	return []any{"uid", cred.Uid, "gid", cred.Gid, "pid", cred.Pid}
}
