#!/usr/bin/env bash
# gofmt, vet, staticcheck, shell syntax.
set -euo pipefail
cd "$(dirname "$0")/.."

unformatted=$(gofmt -l $(git ls-files '*.go'))
if [ -n "$unformatted" ]; then
  echo "not formatted (gofmt -w):" "$unformatted" >&2
  exit 1
fi
go vet ./...
go tool -modfile=hack/tools/go.mod staticcheck ./...
for f in hack/*.sh .ci/run; do bash -n "$f"; done
