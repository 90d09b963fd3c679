// Package preview makes the machine of a Preview out of what its repository
// says: its preview.yaml, or what its built preview-config.nix says of itself. It
// is pure: the fetched commit and those texts are facts that it is given.
//
// Invariants:
//   - names are deterministic: the same repository and branch give the same
//     name on every host, and two that differ in anything give two names;
//   - what an application asks for is bound by the Preview's grants and the
//     host's list of systems; everything wrong is told at once, with its place;
//   - whatever an application writes as a command or variable arrives as it was
//     written: nothing of it is ever a shell's, systemd's or the proxy's syntax.
package preview
