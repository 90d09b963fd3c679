// Package ledger keeps the durable claims of a host: which object has which
// UID, slot, name, route and data. They are what cannot be read off the host.
//
// Invariants:
//   - A key has one owner. The first claim wins; the owner changes only by
//     Release and a new claim.
//   - A change names the revision that it is based on (compare-and-set), so a
//     decision on an old view never overwrites a newer one.
//   - A batch is one write: after a crash all of it is there or none. An
//     operation that was reported as done survives a power cut.
//   - Doing the same again is success.
//   - Values are opaque JSON, kept compact and otherwise as they came.
//
// There is one writer: the daemon that holds the lock of the state directory.
package ledger
