// Package gittest makes real repositories and serves them as forges do, for
// tests: git's own smart HTTP backend, and sshd.
package gittest
