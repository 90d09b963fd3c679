// Package git is the source that reads specs from a branch of a git repository.
//
// It keeps a bare, shallow mirror of the branch and reads the commit's tree
// from there: there is no work tree, so no half-written file, no checkout, no
// filter, no submodule, and no hook runs. git runs as a program, as a user of
// its own, with a configuration that is all ours.
//
// Invariants:
//   - What is in effect is the tree of one commit, which was fetched whole,
//     has an allowed signature where one is demanded, and has no problem
//     (unless Partial says that problems are the files' own). Until another
//     commit is so, this one stays: over errors of any kind, and restarts.
//   - That the remote cannot be reached, or has no such branch any more, says
//     nothing about what is wanted.
//   - Objects are named by their path in the repository, which no commit
//     changes; problems of a commit that is not used as COMMIT:PATH.
//   - No secret is in argv, in an environment, in errors or in the mirror: git
//     finds it in a file of its run directory, which lives for one run.
//   - As root we write nothing into what git's user can write.
package git
