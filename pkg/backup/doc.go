// Package backup makes one archive of what of a host cannot be made again,
// checks such archives, and puts them back.
//
// An archive is a tar stream, which other programs can list, gzipped or not:
// backup.json says whose it is, then come its parts, then manifest.json with
// what each part has to be, and manifest.sha256.
//
// Invariants:
//   - What has no manifest, or is not what that says to the last byte, is no
//     archive: nothing of it is put anywhere.
//   - Reading a tree never leaves it, whatever those who write to it do
//     meanwhile: links below its top are not followed, and an entry that became another one
//     is left out and told.
//   - An archive says what, never where: where a part lies is said by the Host
//     of the machine that it is put back on, or by who puts it back.
//   - A name in an archive is below a part and has a directory of the same
//     archive above it, so nothing is written through a link.
//   - Putting back is all or nothing, and goes on where it was cut short.
package backup
