// Package statuspage shows what a daemon does, in a browser: objects and what they
// lack, events and logs as they come, the plan, a picture of the host.
//
// Invariants:
//   - it asks the daemon on the narrow sockets and needs no privileges; the whole
//     page is made of what it was told last, which is said to be old when it is;
//   - everything that comes from the daemon is hostile: machines, logs and the specs
//     of pull requests speak in it. It goes into HTML through html/template alone;
//     scripts and styles come from here, none is inline, and the browser is told so;
//   - it can be read without a script, and without signing in; what programs print,
//     and every action, is for who has the token, unless the operator opened the logs;
//   - who reads slowly, or not at all, costs one of a bounded number of streams.
package statuspage
