// Package nix drives the Nix package manager: it builds flakes for machines and
// keeps what machines run from the garbage collector.
//
// Invariants:
//   - a root stands before what it keeps is built or used, and goes only when
//     nobody asks for it any more: a garbage collection at any moment does no harm;
//   - a build is a supervised process of its own. It outlives the daemon, and
//     its directory says what it was asked, how far it is and how it ended;
//   - nobody's Nix code is evaluated as root.
package nix
