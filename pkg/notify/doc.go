// Package notify tells programs and web hooks of objects that turn Ready or not
// Ready.
//
// Invariants:
//   - A hook hears how an object is, not each change on the way: what turned
//     back before it could be told is not told.
//   - What a hook heard is durable: a restart of the daemon repeats nothing and
//     forgets nothing.
//   - A hook that fails or hangs delays itself only.
package notify
