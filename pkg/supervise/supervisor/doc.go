// Package supervisor is the life of one supervisor: it starts the process of
// one directory, keeps its log and status, answers the control socket, and
// leaves nothing of it behind. cmd/tekton-supervise is all that calls it.
//
// It runs once for every machine and service of a host and must outlive
// upgrades of the daemon, so it stays small: only the standard library, x/sys
// and packages under that same rule. It decides nothing: no restarts, no
// policy. One goroutine owns all state (run.go); the others only feed it.
package supervisor
