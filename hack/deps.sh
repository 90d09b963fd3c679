#!/usr/bin/env bash
# Installs the Debian packages that tekton's daemon, demo and tests use; with the
# argument host, only those of a server that tekton runs on. Quick when all are
# there: one dpkg-query, no network. As root.
set -euo pipefail

host=(
  systemd-container nftables caddy postgresql # what the daemon drives
  git openssh-client                          # specs and previews from repositories
  util-linux ca-certificates                  # tekton exec; what TLS trusts
  curl python3                                # the first spec of the README
)
packages=(
  "${host[@]}"
  iproute2 procps                                       # readers that are not ours
  dbus mmdebstrap busybox-static debian-archive-keyring # the booted systemd host of the tests
  nix-bin                                               # the language: nix/ is parsed and evaluated, not built
  user-mode-linux e2fsprogs                             # limits on a real cgroup2; quotas
  openssh-server                                        # the remote of the tests
  nano rsync vim-tiny                                   # what edits directories of specs in the tests
  bash-completion zsh fish                              # completion of the command line, in each of its shells
  chromium fonts-dejavu-core                            # looks at the status page
  strace                                                # sees every program that starts
  make gcc libc6-dev                                    # build, race detector
)
case "${1-}" in
  "") ;;
  host) packages=("${host[@]}") ;;
  *)
    echo "deps: unknown argument $1; usage: hack/deps.sh [host]" >&2
    exit 64
    ;;
esac

installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p')
missing=()
for p in "${packages[@]}"; do
  # A server of any version is one.
  [ "$p" != postgresql ] || p='postgresql(-[0-9]+)?'
  grep -qxE "$p" <<<"$installed" || missing+=("${p%%(*}")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "deps: ${missing[*]} must be installed; run as root: $0 $*" >&2
  exit 1
fi

# tekton runs its own private cluster; Debian's default one would only take the port.
if [[ " ${missing[*]} " == *" postgresql "* && ! -e /etc/postgresql-common/createcluster.conf ]]; then
  mkdir -p /etc/postgresql-common
  echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
fi

export DEBIAN_FRONTEND=noninteractive
echo "deps: installing ${missing[*]}" >&2
apt-get update -qq
# --force-confold: the file written above stays. The policy keeps packages from starting services: tekton runs its own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "${missing[@]}" >/dev/null
