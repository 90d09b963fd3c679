// Package wire is what the daemon and its clients agree on beside the types of
// the API: paths, errors and the frames of an exec session.
//
// Invariants:
//   - every answer other than 2xx and 101 is an Error as JSON;
//   - a frame is a type, a length and a payload of at most MaxFrame bytes;
//   - a client has at most StdinWindow bytes of standard input under way, so
//     that the daemon never stops reading: resizes, signals and the end of the
//     client are seen at once, also while a command does not read its input.
package wire
