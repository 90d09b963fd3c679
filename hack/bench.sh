#!/usr/bin/env bash
# Measures tekton against a shell script that does the same, as ratios in one
# run. docs/performance.md says what is measured. Everything runs in network,
# mount and PID namespaces of its own, with an own instance and state directory,
# and is gone afterwards.
#
#   BENCH_QUICK=1   a few runs and small numbers, two minutes
#   BENCH_N, BENCH_RUNS, BENCH_OBJECTS, BENCH_IDLE (seconds)
#   BENCH_ONLY      one part: one, many, agent, preview, route, whole, idle, pass, git, webhook
#   BENCH_KEEP=1    keep the scratch directory, with the daemon's log
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" -ne 0 ]; then
  echo "bench: needs root: sudo make bench" >&2
  exit 1
fi
hack/deps.sh
if [ "${BENCH_QUICK:-}" = 1 ]; then
  : "${BENCH_N:=10}" "${BENCH_RUNS:=3}" "${BENCH_OBJECTS:=20}" "${BENCH_IDLE:=10}"
  export BENCH_N BENCH_RUNS BENCH_OBJECTS BENCH_IDLE
fi

# Not in /tmp, which may be a tmpfs: roots and ledger on a disk are part of it.
dir=$(mktemp -d /var/tmp/tekton-bench.XXXXXX)
chmod 0711 "$dir"
sweep() { # cgroups are what a killed run can leave outside of its namespaces
  for group in /sys/fs/cgroup{,/unified,/systemd}/tekton-{tbn,tbs}; do
    for _ in {1..50}; do
      [ -d "$group" ] || break
      find "$group" -name cgroup.kill -exec sh -c 'echo 1 >"$1"' - {} \; 2>/dev/null || true
      find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
    done
  done
}
# Debian's 128 are used up by about fifteen booted systemds, on both sides.
inotify=/proc/sys/fs/inotify/max_user_instances
instances=$(<"$inotify")
cleanup() {
  sweep
  echo "$instances" >"$inotify"
  if [ "${BENCH_KEEP:-}" = 1 ]; then
    echo "kept: $dir" >&2
  else
    rm -rf "$dir"
  fi
}
trap cleanup EXIT
sweep
[ "$instances" -ge 1024 ] || echo 1024 >"$inotify"

mkdir "$dir/bin"
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$dir/bin/" ./cmd/... ./test/bench
cp test/bench/script.sh "$dir/bin/"

echo "tekton $(git describe --always --dirty 2>/dev/null || echo unknown), $(nproc) cores, kernel $(uname -r), $(systemd-nspawn --version | head -1), load $(cut -d' ' -f1-3 /proc/loadavg)"
if [ -z "${BENCH_ONLY:-}" ] || [ "$BENCH_ONLY" = pass ]; then
  go test ./pkg/reconcile -run '^$' -bench '^BenchmarkPass$' -count 3 |
    awk '/^BenchmarkPass/ { split($1, n, "[=-]"); v = $3 / 1e6; if (!(n[2] in least) || v < least[n[2]]) least[n[2]] = v }
      END { for (o in least) { aim = o == 1000 ? "   aim < 20 ms: " (least[o] < 20 ? "met" : "MISSED: compile and plan of every object") : ""
        printf "%-42s %.1f ms%s\n", "pass over " o " converged objects", least[o], aim } }'
  [ "${BENCH_ONLY:-}" != pass ] || exit 0
fi
if [ -z "${BENCH_ONLY:-}" ] || [ "$BENCH_ONLY" = git ]; then
  go test ./pkg/source/git -run '^$' -bench '^BenchmarkOneOfManyFiles$' -benchtime 5x |
    awk '/^Benchmark/ { for (i = 3; i < NF; i += 2) v[$(i + 1)] = $i
      printf "%-42s %.0f ms, %.2f × the script (%.0f ms)   aim < 0.5: %s\n", "one of 5,000 files of a repository pushed", v["ms-one-changed"], v["×script"], v["ms-script"], v["×script"] < 0.5 ? "met" : "MISSED"
      printf "    nothing pushed %.0f ms; all 5,000 new %.0f ms\n", v["ms-unchanged"], v["ms-all-files"] }'
  [ "${BENCH_ONLY:-}" != git ] || exit 0
fi
if [ -z "${BENCH_ONLY:-}" ] || [ "$BENCH_ONLY" = webhook ]; then
  TMPDIR=$dir go test ./pkg/webhook -run '^$' -bench '^Benchmark(Delivery|Burst)$' -benchtime 50x |
    awk '/^BenchmarkDelivery/ { printf "%-42s %.0f ms   aim < 50 ms: %s\n", "delivery answered, its spec on the disk", $3 / 1e6, $3 < 50e6 ? "met" : "MISSED" }
      /^BenchmarkBurst/ { printf "%-42s %.0f ms\n", "1,000 deliveries at once, 100 specs", $3 / 1e6 }'
  [ "${BENCH_ONLY:-}" != webhook ] || exit 0
fi
export BENCH_BIN=$dir/bin BENCH_DIR=$dir
mkdir "$dir/sys" # that of the new network namespace
unshare --net --mount --pid --fork --kill-child --mount-proc -- bash -c '
  mount -t sysfs sysfs "$BENCH_DIR/sys"
  ip link set lo up
  "$BENCH_BIN/bench"'
