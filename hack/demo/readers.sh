# What the demo looks at to see that it left nothing behind: ip, nft, sysctl and
# /proc, never tekton. Sourced by demo.sh, which sets instance, dir and run.

# snapshot writes what the host has into a directory, one file a topic. Left
# out is what changes by itself: lifetimes, counters.
snapshot() {
  mkdir -p "$1"
  ip -o link >"$1/links"
  ip -o addr | sed 's/ *\\\? *valid_lft.*//' >"$1/addresses"
  { ip -4 rule && ip -6 rule; } >"$1/rules"
  { ip -4 route show table all && ip -6 route show table all; } | sed 's/ expires [^ ]*//' | sort >"$1/routes"
  { nft -s list ruleset 2>/dev/null || true; } | sed 's/ expires [0-9a-z]*//' >"$1/nft"
  cut -d' ' -f5- /proc/self/mountinfo | sed 's/ shared:[0-9]*//; s/ master:[0-9]*//' | sort >"$1/mounts"
  { sysctl -a -r '^(net|user|vm)\.' 2>/dev/null || true; } | grep -vE '^(net\.netfilter\.nf_conntrack_count|vm\.stat)' | sort >"$1/sysctls"
}

# changes prints how two snapshots differ; nothing when they do not.
changes() {
  local topic
  # A kernel module that is loaded brings settings; changed is only what was there.
  awk -F ' = ' 'NR == FNR { seen[$1]; next } $1 in seen' "$1/sysctls" "$2/sysctls" >"$2/sysctls.known"
  mv "$2/sysctls.known" "$2/sysctls"
  for topic in links addresses rules routes nft mounts sysctls; do
    diff -U0 --label "$topic before" --label "$topic after" "$1/$topic" "$2/$topic" || true
  done
}

# traces prints everything that bears the name of the demo's instance, also
# what an earlier demo left; nothing on a clean host.
traces() {
  local table
  table=$((0x7e000000 | 0x$(printf %s "$instance" | sha256sum | cut -c1-6)))
  ip -o link | grep -E "^[0-9]+: tk$instance[0-9]+" | sed 's/^/link: /' || true
  ip -o addr | grep -F "lo:tk$instance" | sed 's/^/address: /' || true
  ip rule show table "$table" 2>/dev/null | sed 's/^/rule: /' || true
  ip route show table "$table" 2>/dev/null | sed 's/^/route: /' || true
  nft list tables 2>/dev/null | grep -E "[ ]tekton_$instance$" | sed 's/^/nft: /' || true
  find /sys/fs/cgroup -depth -type d -name "*tekton-$instance*" 2>/dev/null | sed 's/^/cgroup: /' || true
  processes
}

# processes prints those in a cgroup of the demo, and programs that tekton runs
# on the demo's directory. $daemon, while it is set, is meant to run.
processes() {
  local p pid line
  for p in /proc/[0-9]*; do
    pid=${p#/proc/}
    [ "$pid" != "${daemon:-}" ] || continue
    line=$(tr '\0' ' ' 2>/dev/null <"$p/cmdline") || continue
    [ -n "$line" ] || continue # ended, and init has not reaped it yet
    if grep -qE "/tekton-$instance[./]|/tekton-$instance\$" "$p/cgroup" 2>/dev/null; then
      echo "process: $pid $line"
      continue
    fi
    case $(readlink "$p/exe" 2>/dev/null) in
    */tekton* | */postgres | */caddy | */systemd-nspawn)
      case $line in *"$dir/"*) echo "process: $pid $line" ;; esac
      ;;
    esac
  done
}

# data prints what machines, volumes and databases left in the state directory,
# but for the trash, which is kept for days on purpose, and files about the directories.
data() {
  find "$dir/machines" "$dir/volumes" "$dir/passwords" "$dir/services" -mindepth 1 ! -name ".*" 2>/dev/null | sed 's/^/file: /' | head -20 || true
}
