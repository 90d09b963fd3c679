// Package soak lets 100 objects come, change and go for minutes on a real
// daemon, and demands that nothing grows with their number: memory, goroutines,
// descriptors, connections tracked, directories, mounts, rules.
//
// It runs for three minutes, or for as long as TEKTON_SOAK says (30m), then a
// third of that under systemd, where only the supervision of the machines
// differs. TEKTON_SOAK_SEED replays the order of a lane's changes.
//
// Invariants:
//   - A change is over when the machine itself serves it. How long that took is
//     printed and never judged.
//   - What is compared was measured at rest, with the same objects: a leak of one
//     thing per life of an object is far above the bounds, which do not grow with time.
//   - At the end all is deleted, and nothing is left.
package soak
