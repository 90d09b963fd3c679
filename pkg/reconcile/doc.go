// Package reconcile is the engine: it turns what the sources say and what the
// host is into steps, has them taken, and says how it went.
//
// Core is the part that decides. It does no I/O: a pass takes what was read
// (snapshots, claims, observations, secrets, the time) and yields steps and
// status. Engine is the shell around it: one goroutine that owns the Core, one
// observer a driver, workers for the steps. The simulated world of the tests
// drives the same Core.
//
// Invariants:
//   - an event only says "look again"; every decision comes from full reads;
//   - an object (or one kind of the host's own things) with a step in flight
//     is left alone until what the step touched was observed anew;
//   - nothing waits inside a pass: a slow object never delays another;
//   - what must survive the daemon is in the ledger or on the host itself;
//     the Core remembers only failures and when something was first missed.
package reconcile
