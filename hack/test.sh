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
# TestUpgrade upgrades from the commit before this one, which a shallow clone does not have.
git=(git -c safe.directory='*')
earlier() { "${git[@]}" rev-parse -q --verify 'HEAD~1^{commit}' >/dev/null 2>&1; }
if ! earlier && [ "$("${git[@]}" rev-parse --is-shallow-repository 2>&1)" = true ]; then
  GIT_TERMINAL_PROMPT=0 timeout 60 "${git[@]}" fetch -q --deepen=1 || true
fi
earlier || echo "test: NO EARLIER COMMIT HERE: TestUpgrade upgrades from another build of the present source; get the history, or set TEKTON_TEST_UPGRADE_FROM" >&2
# Two packages at a time: machine tests are bound by CPU, and their deadlines are wall time.
go test -p 2 -timeout 60m "$@" ./...
