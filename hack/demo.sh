#!/usr/bin/env bash
# The quickstart on this very host: installs what is missing, builds, starts a
# daemon of its own beside any other, gives it examples/quickstart, shows that
# all of it answers, then the life of a pull request, and stays up until Ctrl-C,
# which removes everything.
#
#   DEMO_ONCE=1      do not stay: remove everything, prove that the host is as before, exit 0 or 1
#   DEMO_DIR=DIR     state directory (/var/lib/tekton-demo)
#   DEMO_INSTANCE=I  instance, at most 4 characters of [a-z0-9], the last a letter (demo)
#   DEMO_PORT=N      first port to try for Caddy (8480)
set -euo pipefail
cd "$(dirname "$0")/.."

instance=${DEMO_INSTANCE:-demo}
dir=${DEMO_DIR:-/var/lib/tekton-demo}
run=${DEMO_DIR:+$DEMO_DIR/run}
run=${run:-/run/tekton-demo}
port=${DEMO_PORT:-8480}
own=$dir/demo # what this script keeps: configuration, log, what the host was before
daemon=       # process id of the running daemon
child=        # process id of what is waited for
started=      # the daemon may have changed something
. hack/demo/readers.sh
. hack/demo/pull_request.sh

say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }
die() {
  echo "demo: $*" >&2
  exit 1
}
tekton() { bin/tekton --socket "$run/tekton.sock" "$@"; }

# interruptible runs a command so that a signal ends the wait at once.
interruptible() {
  "$@" &
  child=$!
  local status=0
  wait "$child" || status=$?
  child=
  return "$status"
}

prepare() {
  [ "$(id -u)" -eq 0 ] || die "needs root: it makes links, mounts and cgroups; run: sudo make demo"
  command -v go >/dev/null || die "needs Go $(sed -n 's/^go //p' go.mod) or newer in PATH"
  say "Install what is missing (hack/deps.sh)"
  hack/deps.sh
  say "Build (hack/build.sh)"
  hack/build.sh
}

# take keeps a second demo off the same directory.
take() {
  # PostgreSQL and Caddy are not root and must reach their own directories below; 0711 lists nothing.
  mkdir -p "$dir"
  chmod 0711 "$dir"
  exec 9<"$dir"
  flock -n 9 || die "another demo runs on $dir; end it with Ctrl-C, or set DEMO_DIR, DEMO_INSTANCE"
}

# is_daemon reports whether a process is a demo's daemon; one that has ended and
# is not reaped yet has no command line.
is_daemon() { tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | grep -qF -- "--config $own/host.yaml"; }

# remove_earlier removes what a demo that was killed left.
remove_earlier() {
  [ -e "$dir/installation" ] || return 0
  say "Remove what an earlier demo left in $dir"
  local old
  old=$(cat "$own/pid" 2>/dev/null) || true
  while is_daemon "$old"; do
    kill "$old" 2>/dev/null || true
    sleep 0.2
  done
  [ -e "$own/host.yaml" ] || write_config
  start_daemon || die "tektond does not start on it"
  remove_all || die "the earlier demo is not gone, see above"
  mkdir -m 0711 "$dir"
}

free_port() {
  local p
  for p in $(seq "$port" $((port + 50))); do
    [ -n "$(ss -Htln "sport = :$p")" ] || { echo "$p" && return; }
  done
  die "ports $port to $((port + 50)) are all taken; set DEMO_PORT"
}

write_config() {
  port=$(free_port)
  cat >"$own/host.yaml" <<CONFIG
apiVersion: tekton.host/v1alpha1
kind: Host
metadata: {name: demo}
spec:
  instance: $instance
  stateDir: $dir
  runDir: $run
  ingress: {httpPort: $port, httpsPort: 0}
$(host_of_pull_requests)
CONFIG
}

start_daemon() {
  started=yes
  # A session of its own: Ctrl-C is for this script, which then needs the daemon to clean up.
  setsid bin/tektond --config "$own/host.yaml" >>"$own/tektond.log" 2>&1 9<&- &
  daemon=$!
  echo "$daemon" >"$own/pid"
  local i
  for i in $(seq 300); do
    tekton source list >/dev/null 2>&1 && return
    kill -0 "$daemon" 2>/dev/null || break
    sleep 0.1
  done
  tail -n 5 "$own/tektond.log" >&2
  return 1
}

stop_daemon() {
  kill "$daemon" 2>/dev/null || true
  wait "$daemon" 2>/dev/null || true
  daemon=
}

# remove_all removes all objects, waits until independent readers see nothing
# of them, stops the daemon and removes its state.
remove_all() {
  kill -0 "$daemon" 2>/dev/null || start_daemon || return 1
  local objects left i
  objects=$(tekton get -o name) || return 1
  # shellcheck disable=SC2086 # names hold no blanks
  [ -z "$objects" ] || tekton delete --wait --timeout 2m $objects || return 1
  rm -f "$dir"/specs/*.yaml "$dir"/specs/*.yml
  for i in $(seq 100); do
    left=$(traces && data)
    [ -n "$left" ] || break
    sleep 0.2
  done
  stop_daemon
  if [ -n "$left" ]; then
    printf 'demo: left behind:\n%s\n' "$left" >&2
    return 1
  fi
  keep_log
  rm -rf --one-file-system "$dir" "$run"
  started=
}

keep_log() { [ -z "${DEMO_LOG:-}" ] || cp "$own/tektond.log" "$DEMO_LOG"; }

# prove compares the host with what it was before.
prove() {
  local difference left
  snapshot "$1/after"
  difference=$(changes "$1/before" "$1/after")
  left=$(traces)
  [ -n "$left$difference" ] || return 0
  printf 'demo: the host is not as it was:\n%s\n' "$left$difference" >&2
  return 1
}

clean_up() {
  local status=$? before
  trap - EXIT
  trap '' INT TERM HUP
  [ -z "$child" ] || kill "$child" 2>/dev/null || true
  unfollow
  if [ -z "$started" ]; then
    # What a demo before this one left stays for the next one to remove.
    [ -e "$dir/installation" ] || rm -rf "$dir"
    exit "$status"
  fi
  say "Remove everything"
  before=$(mktemp -d)
  cp -r "$own/before" "$before/" 2>/dev/null || true
  if ! remove_all; then
    keep_log
    echo "demo: the state is kept in $dir, the log in $own/tektond.log; run the demo again to remove what is left" >&2
    status=1
  elif [ -d "$before/before" ] && prove "$before"; then
    echo "Gone: no process, link, address, rule, route, nft table, mount, cgroup, setting, database or file of it is left." >&2
  else
    status=1
  fi
  rm -rf "$before"
  exit "$status"
}

# fetch asks Caddy for a URL; names below localhost are this host's loopback.
fetch() { curl -sS --fail --max-time 10 --noproxy '*' --resolve "*:$port:127.0.0.1" "$@"; }

# show fetches a URL and prints its first line.
show() {
  local body
  body=$(fetch "$1") || return 1
  printf '%-45s %s\n' "$1" "$(head -n 1 <<<"$body")"
}

show_all() {
  local url stamp
  say "Each URL answers through Caddy"
  for url in $(tekton get -o json | grep -oE '"http://[^"]*"' | tr -d '"'); do
    case $url in *.localhost:"$port"/api) url=$url/prices.json ;; esac
    show "$url" || return 1
  done
  say "The guestbook writes to its database and reads it back"
  stamp="signed at $(date +%T), number $RANDOM"
  fetch -o /dev/null --data-urlencode "text=$stamp" "http://guestbook.localhost:$port/" || return 1
  fetch "http://guestbook.localhost:$port/" | grep -F "$stamp"
}

main() {
  prepare
  take
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  trap clean_up EXIT
  remove_earlier
  mkdir -p "$own"
  # Empty cgroups are all that can outlive a state directory that somebody removed, or a namespace; others refuse.
  find /sys/fs/cgroup/ -depth -type d -path "*/tekton-$instance*" -exec rmdir {} + 2>/dev/null || true
  [ -z "$(traces)" ] || die "something else uses the instance name $instance: $(traces | head -n 3); set DEMO_INSTANCE"
  snapshot "$own/before"
  write_config
  prepare_pull_requests
  say "Start tektond: state in $dir, Caddy on port $port"
  start_daemon || die "tektond does not start"
  say "Copy examples/quickstart/*.yaml into $dir/specs"
  cp examples/quickstart/*.yaml "$dir/specs/"
  interruptible tekton wait --for=condition=Ready --timeout 3m hello shop shop-api guestbook ||
    die "not all is Ready; $(tail -n 20 "$own/tektond.log")"
  say "tekton get"
  tekton get
  show_all || die "see above"
  show_pull_request || die "see above"
  [ -z "${DEMO_ONCE:-}" ] || return 0
  say "It stays up until Ctrl-C. Meanwhile, in another terminal:"
  cat >&2 <<TEXT
  export TEKTON_SOCKET=$run/tekton.sock
  bin/tekton describe guestbook
  bin/tekton exec hello -- ps ax
  bin/tekton plan -f examples/quickstart/hello.yaml     # after a change to it
  rm $dir/specs/hello.yaml                # and it is gone
TEXT
  trap 'exit 0' INT
  wait "$daemon" || die "tektond ended; its log ends: $(tail -n 5 "$own/tektond.log")"
}

main
