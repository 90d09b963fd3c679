// Package e2e tests the daemon and the command line as they are built, from the
// outside: real machines, links, rules, Caddy and PostgreSQL, looked at with
// independent readers (ip, nft, /proc, PostgreSQL's catalogue) and never with
// what tekton observes itself.
//
// Every test runs a daemon of its own with an own instance, subnet and
// directories. The tests run twice: with supervisors of ours, in namespaces of
// this test process, and again in a booted systemd host.
//
// Invariants:
//   - Every test that passes has deleted its objects and has seen that nothing
//     of its instance is left on the host.
//   - Nothing waits for a fixed time: what must come about is waited for with a
//     deadline.
package e2e
