#!/usr/bin/env bash
# Fails when a generated file is not what its generator makes, or go.mod is not tidy.
set -euo pipefail
cd "$(dirname "$0")/.."

go run ./hack/gen
go mod tidy
if [ -n "$(git status --porcelain -- specs nix go.mod go.sum docs)" ]; then
  echo "generated files differ; commit what 'make generate' makes:" >&2
  git status --porcelain -- specs nix go.mod go.sum docs >&2
  git --no-pager diff -- specs nix go.mod docs | head -60 >&2
  exit 1
fi
