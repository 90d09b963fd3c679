// Package server is the daemon's API: HTTP and JSON on a unix socket.
//
// Invariants:
//   - it decides nothing about specs or the host: everything goes to the Backend;
//   - the socket is never open to more than root and one group, not even while
//     it is made, and a socket that somebody answers on is never replaced;
//   - the readers' socket answers questions and nothing else, the operators' beside
//     that starts machines anew and shows what they print: a route is closed there
//     unless it says that it is open;
//   - no request body, secret or environment enters a log;
//   - a client that hangs costs one goroutine and delays nobody else; when it
//     goes, the command that it ran in a machine goes too;
//   - nothing that a machine controls (its environment, its files) is used by a
//     program that runs on the host's side.
package server
