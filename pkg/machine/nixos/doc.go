// Package nixos runs machines as containers of NixOS: a configuration file in
// /etc/nixos-containers, a profile, and the host's own unit container@NAME,
// driven over D-Bus.
//
// Invariants:
//   - A container is ours when its configuration file has our mark. One that
//     has not is somebody else's: nothing of it is written, started or removed.
//   - Everything that belongs to a container is found by its name and by the
//     state file in the machine's directory; a new daemon takes over by reading.
//   - The root lies among tekton's volumes; NixOS's directory has a link to it.
//   - The network is tekton's: the unit gets a private network without a link,
//     so that no packet leaves before the rules are there, whoever starts it.
//   - Reading changes nothing, and asks systemd only after it has said that
//     something changed.
package nixos
