#!/usr/bin/env bash
# Parses every Nix file. With NIXPKGS_LIB=DIR, nixpkgs' own lib directory, the
# module is evaluated with it: types, defaults, the rendered Host files against
# goldens (UPDATE=1 writes them) and judged by tekton itself, units, firewall.
# Nothing is built; nix/tests need a NixOS builder.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v nix-instantiate >/dev/null; then
  echo "check-nix: nix-instantiate is missing; hack/deps.sh installs it (Debian's nix-bin)" >&2
  exit 1
fi
# No store, no daemon, no builders: only the language.
nix=(nix-instantiate --store dummy:// --option build-users-group '')

mapfile -t files < <(git ls-files '*.nix')
"${nix[@]}" --parse "${files[@]}" >/dev/null
echo "check-nix: ${#files[@]} files parse"

if [ -z "${NIXPKGS_LIB:-}" ]; then
  echo "check-nix: the module was NOT EVALUATED: set NIXPKGS_LIB to the directory lib of a nixpkgs" >&2
  exit 0
fi
lib=$(realpath "$NIXPKGS_LIB")
evaluate() { "${nix[@]}" --eval --strict --json nix/check --arg nixpkgsLib "$lib" -A "$1" | python3 -m json.tool --sort-keys; }

failed=$(evaluate failed)
if [ "$failed" != '[]' ]; then
  echo "check-nix: these do not hold of nix/module.nix: $failed" >&2
  exit 1
fi
echo "check-nix: $(evaluate passed) properties of the module hold, with nixpkgs $(cat "$lib/.version")"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/" ./cmd/tekton
for name in minimal example; do
  golden=nix/check/$name.host.json
  evaluate "$name" >"$work/$name.json"
  if [ -n "${UPDATE:-}" ]; then cp "$work/$name.json" "$golden"; fi
  diff -u "$golden" "$work/$name.json"
done
evaluate admission >"$work/admission.json"
"$work/tekton" validate "$work"/*.json

# In a network namespace of its own, where nft may look and can change nothing.
evaluate ruleset | python3 -c 'import json, sys; print(json.load(sys.stdin))' >"$work/ruleset"
unshare --map-root-user --net nft --check --file "$work/ruleset"
echo "check-nix: nft takes the second layer and the firewall's additions"
