#!/usr/bin/env bash
# Installs the programs of bin/ (or BIN) with unit, group and configuration, for Debian
# and its like: "make build", then "make install" as root. PREFIX is /usr/local;
# with DESTDIR everything goes below it and nothing on this host is told. It
# replaces programs by renaming, keeps what is in /etc/tekton, and starts nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=${PREFIX:-/usr/local}
dest=${DESTDIR:-}
bin=${BIN:-bin}
libexec=$prefix/libexec/tekton

programs=(tekton tekton-init tekton-launch tekton-status tekton-supervise tekton-webhook tektond)
for p in "${programs[@]}"; do
  if [ ! -x "$bin/$p" ]; then
    echo "install: $bin/$p is missing; run: make build" >&2
    exit 1
  fi
done

# put MODE SOURCE TARGET: whoever has the old file open keeps it.
put() {
  install -D -m "$1" "$2" "$dest$3.new"
  mv -f "$dest$3.new" "$dest$3"
}

# In one directory: they find each other there.
for p in "${programs[@]}"; do put 0755 "$bin/$p" "$libexec/$p"; done
for link in bin/tekton sbin/tektond sbin/tekton-status sbin/tekton-webhook; do
  mkdir -p "$dest$prefix/${link%/*}"
  ln -sfn "../libexec/tekton/${link#*/}" "$dest$prefix/$link"
done

# What "tekton new" names to editors.
for schema in specs/*.schema.json; do put 0644 "$schema" "$prefix/share/tekton/${schema#*/}"; done

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

# The program's own word on itself: manual pages, and completion where the shells look.
"$bin/tekton" man "$made/man"
for page in "$made"/man/*.1; do put 0644 "$page" "$prefix/share/man/man1/${page##*/}"; done
completion() {
  "$bin/tekton" completion "$1" >"$made/$1"
  put 0644 "$made/$1" "$prefix/share/$2"
}
completion bash bash-completion/completions/tekton
completion zsh zsh/site-functions/_tekton
completion fish fish/vendor_completions.d/tekton.fish

for unit in tektond tekton-status tekton-webhook; do
  sed "s|@libexec@|$libexec|" "packaging/$unit.service" >"$made/unit"
  put 0644 "$made/unit" "$prefix/lib/systemd/system/$unit.service"
done
put 0644 packaging/sysusers.conf "$prefix/lib/sysusers.d/tekton.conf"
put 0644 packaging/networkd.conf "$prefix/lib/systemd/networkd.conf.d/tekton.conf"
for conf in host status webhook; do
  [ -e "$dest/etc/tekton/$conf.yaml" ] || put 0644 "packaging/$conf.yaml" "/etc/tekton/$conf.yaml"
done
mkdir -p -m 0700 "$dest/etc/tekton/status-secrets" "$dest/etc/tekton/webhook-secrets"

[ -z "$dest" ] || exit 0
systemd-sysusers "$prefix/lib/sysusers.d/tekton.conf"
[ ! -d /run/systemd/system ] || systemctl daemon-reload
echo "install: done; next: systemctl enable --now tektond (after an upgrade: systemctl restart tektond)"
if systemctl --quiet is-active systemd-networkd 2>/dev/null; then
  echo "install: systemd-networkd must learn to leave tekton's rules alone: systemctl restart systemd-networkd"
fi
# Debian enables its own unit with the package.
if systemctl --quiet is-enabled caddy 2>/dev/null; then
  echo "install: caddy.service would take the ports of tekton's own Caddy: systemctl disable --now caddy, or serve with it: ingress.mode: system"
fi
