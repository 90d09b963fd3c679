#!/usr/bin/env bash
# Removes what a killed test run can leave outside of its namespaces: cgroups
# of test instances. Everything else of a test ends with its namespaces.
set -euo pipefail

for root in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
  [ -d "$root" ] || continue
  # Test instances are named tekton-t…; empty ones only: rmdir refuses the others,
  # which belong to a test that runs. The processes of a killed one ended with its
  # PID namespace.
  for d in "$root"/tekton-t*; do
    [ -d "$d" ] || continue
    find "$d" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
done
