#!/usr/bin/env bash
# Runs every ring of tests: pure, simulated world, scripts, real parts, booted
# systemd host. Without root the real rings are skipped, loudly.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" -eq 0 ]; then
  hack/deps.sh
  hack/sweep.sh
  trap hack/sweep.sh EXIT
fi
hack/build.sh
# Two packages at a time: machine tests are bound by CPU, and their deadlines are wall time.
go test -p 2 -timeout 30m "$@" ./...
