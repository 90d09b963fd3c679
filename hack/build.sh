#!/usr/bin/env bash
# Builds all programs into bin/. Those that run inside or beside machines are static.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(git describe --always --dirty 2>/dev/null || echo unknown)
mkdir -p bin
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X tekton.host/pkg/server/wire.version=$version" -o bin/ ./cmd/...
