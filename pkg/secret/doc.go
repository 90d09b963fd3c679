// Package secret keeps the two sorts of secrets of a host: passwords of
// databases, which tekton makes up, and the operator's own, which it is given.
//
// Invariants:
//   - A password is made once, from 32 random bytes, and is durably stored
//     before anybody learns it. While its file exists it is never replaced.
//   - Every file is 0600 and root's. A secret that others can read is refused.
//   - No value leaves this package but through the files themselves. What is
//     shown, compared and logged is a digest under a key of this host's.
//   - Names are checked before they become file names; files are opened below
//     their directory only, never through a link.
//   - A directory that cannot be read is Unknown, never empty.
package secret
