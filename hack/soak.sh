#!/usr/bin/env bash
# Lets 100 objects come, change and go for TEKTON_SOAK (3m), then a third of that
# under systemd, and shows what grew and how long changes took (test/soak).
# TEKTON_SOAK_SEED replays the order of a run's changes. As root.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" -ne 0 ]; then
  echo "soak: needs root: sudo make soak" >&2
  exit 1
fi
hack/deps.sh
hack/sweep.sh
trap hack/sweep.sh EXIT
TEKTON_TEST_REQUIRE=1 go test ./test/soak -count=1 -v -timeout 0 "$@"
