// Package supervise runs processes that outlive the daemon: machines, the
// managed PostgreSQL and Caddy, the DNS server.
//
// Each has a directory and a supervisor of its own (cmd/tekton-supervise, one
// process a directory), which the Manager starts either by itself or as a
// transient systemd unit. Both forms keep the same contract (package
// contract), so that callers see no difference:
//
//   - The directory is the whole truth: spec.json says what was asked for, the
//     held lock that a supervisor lives, status.json what became of the
//     process. A new Manager knows all of it without having started any of it.
//   - One directory has one supervisor at a time; one process has one cgroup,
//     and nothing in that cgroup survives the end of the process.
//   - Nothing is restarted here. A process that ended stays ended, with its
//     exit code in the status, until Start is called again.
//   - Reading is cheap, changes nothing, and never waits for a supervisor.
//   - Idle costs nothing: no timers, no polling; changes arrive by inotify.
package supervise
