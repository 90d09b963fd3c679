// Package cgroup makes, limits, kills and removes the cgroups of supervised
// processes. It imports only the standard library and x/sys, because the
// supervisor's small binary uses it.
//
// Groups live in the cgroup v2 hierarchy, which may be mounted alone or beside
// v1 hierarchies (hybrid). In the latter systemd-nspawn repeats the paths of its
// own groups in v1's name=systemd; here that copy is only ever removed.
//
// Moving a running process between cgroups costs a grace period of the kernel
// (about 10 ms), being born in one costs nothing: processes are started inside
// their group (clone3 with CLONE_INTO_CGROUP), not moved.
package cgroup
