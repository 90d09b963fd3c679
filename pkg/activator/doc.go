// Package activator lets objects sleep while nobody asks for them: a process of
// its own, which outlives the daemon, between the proxy and such objects, and
// the driver that tells it where they are.
//
// The activator is in the way of their requests for good, not only while they
// sleep: thereby it knows of each request, also of one that is still under way,
// and neither sleeping nor waking changes the proxy's configuration, which older
// versions of Caddy close the upgraded connections of everybody for.
//
// Who is asleep is the activator's decision and durable in its state. The
// daemon follows: it stops the machine of a gate that is asleep, and starts that
// of one that is not. So no wake is lost, whatever the daemon does meanwhile.
//
// Invariants:
//   - Driver and process share two files, each replaced as a whole: DIR/gates.json
//     is the driver's, DIR/state/state.json the process's. State names the table
//     that it was written under: a Put returns when the process goes by it.
//   - A gate falls asleep only when no request is under way, and none was for
//     SleepAfter while there was a machine to answer it. Time is measured by a clock
//     that nobody sets, and begins anew with each change of the gate.
//   - A request wakes and is served: a person who looks at a page gets one that
//     loads again by itself, all others wait for the machine.
//   - Health checks (see check) neither wake nor keep awake.
//   - Only the host itself is answered: the header that names a gate is the proxy's.
//   - The process is nobody special: it serves as the proxy's user.
package activator
