// Package repository runs git on bare repositories that are mirrors of remote
// ones, for whoever fetches: git as a program, as a user of its own, with a
// configuration that is all ours, and limits on memory and on the size of files.
//
// Invariants:
//   - No hook, filter, credential helper, alias or submodule of anybody runs, and
//     nobody is asked anything.
//   - No secret is in argv, in an environment, in errors or in the repository: git
//     finds it in a file of its run directory, which lives for one run.
//   - As root we write nothing into what git's user can write.
package repository
