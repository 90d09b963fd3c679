// Package repo holds the project's rules that no compiler checks: the direction
// of imports, one doc comment a package, runnable examples, documented reasons.
package repo
