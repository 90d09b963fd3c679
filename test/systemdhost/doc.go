// Package systemdhost boots a whole systemd host for tests: Debian 13 as a
// systemd-nspawn container with cgroup v2, D-Bus and machined, in which units,
// nested containers, nftables, Caddy and PostgreSQL are real. It takes half a
// second, so a test package can have one of its own.
//
// The userland is built once (about a minute) and kept in $TEKTON_CACHE, by
// default /var/cache/tekton-test, under a name that changes with its recipe.
// Every host is an overlay over it.
//
// Invariants:
//   - Nothing of a host survives its test: processes, mounts, cgroups, files.
//     What a killed test process left is swept by the next Boot.
//   - The machine is not changed: a host has its own network namespace with
//     nothing but lo, and its own cgroup.
package systemdhost
