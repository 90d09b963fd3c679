// Package launch turns a machine's directory into a running systemd-nspawn: it
// builds the root in a mount namespace of its own, reads the secrets, and
// executes nspawn in its place.
//
// Invariants:
//   - No mount of a machine is ever visible on the host: a machine that died,
//     in whatever way, leaves none. Unmounts on the host still arrive.
//   - Nothing is chowned: lower layers, volumes and mounts are idmapped clones,
//     so that ids on disk stay those that the machine sees.
//   - Secrets go from their files into a sealed memory file that only the
//     machine's first process reads; never into argv, environment or a disk.
//   - Paths inside a machine's root are resolved inside that root.
//   - It fails closed, with a message on stderr and an exit code that names the
//     sort of failure.
package launch
