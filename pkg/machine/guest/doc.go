// Package guest is the first process inside a machine: it waits for the
// machine's address, puts credentials and resolver in place, becomes the
// machine's user and executes the command or the system's init.
//
// Invariants:
//   - It fails closed: without address, user or credentials nothing is executed.
//   - Credentials are written below /run and only onto tmpfs, mode 0400.
//   - It does not poll: the address is awaited on a netlink socket.
//   - It executes; it never stays between the supervisor and the command.
package guest
