// Package metrics tells Prometheus how the daemon works and how its objects
// are: what takes its time is counted while it happens, what is so now is read
// from the last published view when somebody asks.
//
// Invariants:
//   - Labels hold names of kinds, objects, sources and reasons, and ids of commits,
//     nothing that a machine or a repository can choose freely.
//   - A scrape looks at nothing on the host and waits for nobody.
package metrics
