// Package setup does what has to be done once inside a running machine for a
// revision: it delivers files, replaces a checkout, runs a setup and (re)starts
// services. It is a job, outside of the daemon.
//
// Invariants:
//   - What is done inside is done by programs in the machine's namespaces, that
//     have its rights and no file of the host but their standard streams and one
//     sealed document. Nothing below the machine's root is opened from the host.
//   - A secret is read when it is delivered, and is in that document only.
//   - The machine may lie about what it did. It is believed: only the machine's
//     own object is shown the wrong status.
//   - Services that run are touched only after the setup has succeeded, or in a
//     start of the machine in which they were not started yet.
package setup
