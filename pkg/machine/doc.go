// Package machine is the driver of volumes, instances, units and answers: the
// directories of machines and of their data, the running systemd-nspawn of
// each, and whether it answers.
//
// A machine is three processes beside its own: the supervisor (package
// supervise), which starts the launcher (package launch), which becomes
// systemd-nspawn, whose first process inside is tekton-init (package guest).
//
// Invariants:
//   - A directory says itself whose it is: instance.json and a volume's marker
//     carry the mark. Nothing without ours is changed or removed.
//   - The driver holds no state that matters: a new one adopts what runs.
//   - Data leaves in two moves only: to the trash, by a Delete step of the
//     volume's owner under policy Delete, and out of it by PurgeTrash or
//     DeleteData.
//   - Nothing below a machine's or volume's root is ever followed: deletion
//     walks by descriptors, resolves no link and crosses no mount.
//   - Observing writes nothing and starts no process.
package machine
