// Package transfer copies files as a tar stream: out of a directory tree and
// into one. It runs inside machines, as part of their first program, and in the
// command line tool, so it uses the standard library only.
//
// Invariants:
//   - what a stream says lands below the destination and nowhere else: links in
//     the destination and in the stream are not followed out of it;
//   - what a copy out of a machine is called is said by who asked for it;
//   - regular files, directories and symbolic links are copied, with permissions
//     and times; owners, set-user-id bits, devices, sockets and pipes are not.
package transfer
