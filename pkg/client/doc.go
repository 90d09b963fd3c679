// Package client speaks to the daemon's API on its unix socket.
//
// Invariants:
//   - a daemon that cannot be reached is an *UnreachableError that says what to
//     do, an answer that is no success a *wire.Error;
//   - every call ends with its context.
package client
