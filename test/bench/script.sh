#!/usr/bin/env bash
# What a good shell script would do in tekton's place: the yardstick of
# `make bench`. It does the same to the host as tekton does for the same
# machine (flags of systemd-nspawn with its system call filter, user namespace,
# idmapped lower layer under an overlay, link, addresses, nft elements, cgroup)
# and nothing of the rest: no state on disk, no ledger, no supervisor, no log
# bound, no probe, nothing that repairs or removes.
#
#   script.sh up FIRST LAST     starts machines FIRST..LAST, all at once
#   script.sh down FIRST LAST   ends them
#   script.sh update SLOT SLOT  gives a machine with an application the commit
#
# Environment: BENCH (directory), ROOTFS, PAYLOAD (httpd, sshd, preview), REPOSITORY and COMMIT (of preview), NET (first two octets), TABLE (nft), GROUP (of links), HELPER (makes
# the idmapped clone: util-linux of Debian 12 cannot).
set -euo pipefail

cgroup=/sys/fs/cgroup # or, on a hybrid host, where version 2 is
[ -e "$cgroup/cgroup.procs" ] || cgroup=/sys/fs/cgroup/unified
cgroup=$cgroup/tekton-tbs

# Waits without starting a process.
exec {never}<> <(:)
nap() { read -rt 0.002 -u "$never" || true; }

names() { # slot
  name=bench-$1 link=tkbs$1 base=$((524288 + 65536 * $1))
  printf -v host '%s.%d.%d' "$NET" $((2 * $1 / 256)) $((2 * $1 % 256))
  printf -v addr '%s.%d.%d' "$NET" $(((2 * $1 + 1) / 256)) $(((2 * $1 + 1) % 256))
  printf -v outside '02:74:%02x:%02x:%02x:%02x' ${host//./ }
  printf -v inside '02:74:%02x:%02x:%02x:%02x' ${addr//./ }
  dir=$BENCH/script/$name
}

prepare() { # slot
  names "$1"
  nft "add element inet $TABLE bound { $link . $addr }; add element inet $TABLE internet { $addr }"
  mkdir -p "$dir/upper" "$dir/work" "$dir/stage" "$cgroup/$name"
  chown "$base:$base" "$dir/upper" "$dir/work"
  echo "$BASHPID" >"$dir/pid" # nspawn's, in the end
  echo "$BASHPID" >"$cgroup/$name/cgroup.procs"
  [ "$PAYLOAD" != preview ] || application
  # In a mount namespace of its own, like tekton's: a dead machine leaves no mount.
  exec unshare --mount --propagation slave "$0" launch "$1" >"$dir/log" 2>&1 </dev/null
}

application() { # the commit's files go where the machine will find them
  fetch
  git -C "$BENCH/script/mirror" archive "$COMMIT" | install_into "$dir/upper/home/preview"
  chown -R $((base + 1000)):$((base + 1000)) "$dir/upper/home/preview"
}

fetch() { # one mirror for all, as a careful script would have it
  (
    flock 9
    [ -d "$BENCH/script/mirror" ] || git init --quiet --bare "$BENCH/script/mirror"
    git -C "$BENCH/script/mirror" cat-file -e "$COMMIT" 2>/dev/null || git -C "$BENCH/script/mirror" fetch --quiet --depth 1 "$REPOSITORY" "$COMMIT"
  ) 9>"$BENCH/script/lock"
}

install_into() { mkdir -p "$1/app" && tar -x --no-same-owner -C "$1/app"; }

update() { # slot: the running machine gets the commit, its setup runs, its service starts again
  names "$1"
  fetch
  local leader
  read -r leader _ <"/proc/$(<"$dir/pid")/task/$(<"$dir/pid")/children" || true # it ends without a newline
  git -C "$BENCH/script/mirror" archive "$COMMIT" | nsenter --target "$leader" --all -- sh -c '
    cd /home/preview && rm -rf app.new && mkdir app.new && tar -x --no-same-owner -C app.new && chown -R 1000:1000 app.new && rm -rf app && mv app.new app
    systemctl restart app.service'
}

configure() { # slot: the host's end, as soon as nspawn has made it
  names "$1"
  [ -e "/proc/sys/net/ipv4/conf/$link/rp_filter" ] && [ -e "/proc/sys/net/ipv6/conf/$link/accept_ra" ] || return 1
  for s in ipv6/conf/$link/disable_ipv6=1 ipv6/conf/$link/accept_ra=0 ipv4/conf/$link/route_localnet=0 \
    ipv4/conf/$link/src_valid_mark=1 ipv4/conf/$link/rp_filter=1; do
    echo "${s#*=}" >"/proc/sys/net/${s%=*}"
  done
  ip -batch - <<EOT
link set $link address $outside group $GROUP up
addr add $host/32 dev $link
neigh replace $addr lladdr $inside dev $link nud permanent
route replace $addr/32 dev $link src $host
EOT
}

up() { # first last: all machines at once, one loop that waits for their links
  local waiting=()
  for ((slot = $1; slot <= $2; slot++)); do
    prepare "$slot" &
    waiting[slot]=$slot
  done
  while [ ${#waiting[@]} -gt 0 ]; do
    for slot in "${waiting[@]}"; do
      if configure "$slot"; then unset "waiting[$slot]"; fi
    done
    nap
  done
}

launch() { # slot
  names "$1"
  cd "$dir"
  mount -t tmpfs -o mode=0755 tmpfs stage
  mkdir stage/lower stage/root
  "$HELPER" idmap "$ROOTFS" stage/lower "$base"
  mount -t overlay -o lowerdir=stage/lower,upperdir=upper,workdir=work,index=off,metacopy=off,xino=off,redirect_dir=off overlay stage/root
  local binds=() payload="exec busybox httpd -f -p 8080 -h /www"
  if [ "$PAYLOAD" = sshd ]; then # out of the host's own userland
    binds=(--bind-ro=/usr) payload="mkdir -p /run/sshd; exec /usr/sbin/sshd -D -e -f /etc/sshd_config"
  fi
  local console=(--as-pid2 --console=pipe)
  if [ "$PAYLOAD" = preview ]; then # the same, booted
    binds=(--bind-ro=/usr) payload="exec /usr/lib/systemd/systemd" console=(--console=passive)
  fi
  # The machine configures its end itself: the fastest way for a script.
  exec systemd-nspawn --keep-unit --register=no --quiet --settings=no --link-journal=no --resolv-conf=off --timezone=off \
    --private-network --network-veth-extra="$link:host0" --machine="$name" --hostname="$name" --directory="$dir/stage/root" \
    --private-users="$base:65536" --private-users-ownership=off \
    --drop-capability=CAP_AUDIT_CONTROL,CAP_MKNOD,CAP_NET_RAW,CAP_SYS_TIME --kill-signal=SIGRTMIN+3 "${console[@]}" "${binds[@]}" -- \
    /usr/bin/busybox sh -c "
      ifconfig lo up; ifconfig host0 hw ether $inside $addr netmask 255.255.255.255 up
      ip route add $host dev host0 scope link; ip route add default via $host
      $payload"
}

down() { # slot
  names "$1"
  echo 1 >"$cgroup/$name/cgroup.kill"
  ip link delete "$link" 2>/dev/null || true
  nft "delete element inet $TABLE bound { $link . $addr }; delete element inet $TABLE internet { $addr }"
  for _ in {1..500}; do
    find "$cgroup/$name" -depth -type d -exec rmdir {} + 2>/dev/null || true
    [ -e "$cgroup/$name" ] || break
    nap
  done
  rm -rf "$dir"
}

case $1 in
up) up "$2" "$3" ;; # machines are children and stay
down)
  for ((slot = $2; slot <= $3; slot++)); do down "$slot" & done
  wait
  ;;
update) update "$2" ;;
launch) launch "$2" ;;
esac
