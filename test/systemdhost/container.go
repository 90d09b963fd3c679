package systemdhost

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// StoreDir is where InstallContainers has the Nix store; it is on a file system
// that can map ids, which the host's own root is not.
const StoreDir = DataDir + "/nix"

// containerUnit is a unit that behaves as NixOS's template of containers does.
// It is written from the behaviour: which keys it reads and what it does then.
const containerUnit = `[Unit]
Description=Container '%i'
RequiresMountsFor=/var/lib/nixos-containers/%i

[Service]
Type=notify
Environment=root=/var/lib/nixos-containers/%i
Environment=INSTANCE=%i
EnvironmentFile=-/etc/nixos-containers/%i.conf
ExecStartPre=/usr/local/libexec/container before
ExecStart=/usr/local/libexec/container run
ExecStartPost=/usr/local/libexec/container after
SyslogIdentifier=container %i
TimeoutStartSec=1min
Restart=on-failure
RestartForceExitStatus=133
SuccessExitStatus=133
Slice=machine.slice
Delegate=true
KillMode=mixed
KillSignal=TERM
DevicePolicy=closed
`

// containerScript is what the unit runs.
const containerScript = `#!/bin/bash
set -e
per_container=/nix/var/nix
link=ve-$INSTANCE
addresses="$HOST_ADDRESS$LOCAL_ADDRESS$HOST_ADDRESS6$LOCAL_ADDRESS6"

before() {
	machinectl terminate "$INSTANCE" 2>/dev/null || true
	if [ -n "$addresses" ]; then
		ip link del dev "$link" 2>/dev/null || true
		ip link del dev "vb-$INSTANCE" 2>/dev/null || true
	fi
}

run() {
	mkdir -p "$root"/{usr/bin,etc,root} "$root/var/lib/private" /run/nixos-containers
	chmod 0755 "$root/etc" "$root/var/lib"
	chmod 0700 "$root/var/lib/private" "$root/root" /run/nixos-containers
	for empty in os-release machine-id; do
		[ -e "$root/etc/$empty" ] || [ -h "$root/etc/$empty" ] || : >"$root/etc/$empty"
	done
	for kind in profiles gcroots; do
		mkdir -p "$per_container/$kind/per-container/$INSTANCE"
		chmod 0755 "$per_container/$kind/per-container/$INSTANCE"
	done
	[ "$COPY_RESOLV_CONF" != 1 ] || cp --remove-destination /etc/resolv.conf "$root/etc/resolv.conf"

	flags=() map=
	[ "$PRIVATE_NETWORK" != 1 ] || flags+=(--private-network)
	if [ -n "$PRIVATE_USERS" ]; then
		flags+=("--private-users=$PRIVATE_USERS")
		case $PRIVATE_USERS in pick | [1-9]*) map=:idmap ;; esac
	fi
	[ -z "$addresses$LOCAL_MAC_ADDRESS" ] || flags+=(--network-veth)
	for port in ${HOST_PORT//,/ }; do flags+=("--port=$port"); done
	[ -z "$HOST_BRIDGE" ] || flags+=("--network-bridge=$HOST_BRIDGE")
	[ -z "$NETWORK_NAMESPACE_PATH" ] || flags+=("--network-namespace-path=$NETWORK_NAMESPACE_PATH")
	for name in $INTERFACES; do flags+=("--network-interface=$name"); done
	for name in $MACVLANS; do flags+=("--network-macvlan=$name"); done
	# A 32-bit system gets its personality; the file is looked at from the host.
	[ "$(cat "${SYSTEM_PATH:-/nix/var/nix/profiles/per-container/$INSTANCE/system}/system")" != i686-linux ] || flags+=(--personality=x86)

	export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
	exec systemd-nspawn --keep-unit -M "$INSTANCE" -D "$root" "${flags[@]}" \
		--notify-ready=yes --kill-signal=SIGRTMIN+3 \
		--bind-ro=/nix/store:/nix/store$map --bind-ro=/nix/var/nix/db:/nix/var/nix/db$map \
		--bind-ro=/nix/var/nix/daemon-socket:/nix/var/nix/daemon-socket$map \
		--bind="/nix/var/nix/profiles/per-container/$INSTANCE:/nix/var/nix/profiles$map" \
		--bind="/nix/var/nix/gcroots/per-container/$INSTANCE:/nix/var/nix/gcroots$map" \
		--link-journal=try-guest --setenv PRIVATE_NETWORK="$PRIVATE_NETWORK" --setenv PRIVATE_USERS="$PRIVATE_USERS" \
		--setenv HOST_BRIDGE="$HOST_BRIDGE" --setenv HOST_ADDRESS="$HOST_ADDRESS" --setenv LOCAL_ADDRESS="$LOCAL_ADDRESS" \
		--setenv HOST_PORT="$HOST_PORT" --setenv PATH="$PATH" \
		$EXTRA_NSPAWN_FLAGS "${SYSTEM_PATH:-/nix/var/nix/profiles/system}/init"
}

after() {
	if [ -n "$addresses" ] && [ -z "$HOST_BRIDGE" ]; then
		ip link set dev "$link" up
		[ -z "$HOST_ADDRESS" ] || ip addr add "$HOST_ADDRESS" dev "$link"
		[ -z "$LOCAL_ADDRESS" ] || ip route add "$LOCAL_ADDRESS" dev "$link"
	fi
}

"$1"
`

// storeMount puts the store where Nix has it.
const storeMount = `[Unit]
Description=Nix store
[Mount]
What=` + StoreDir + `
Where=/nix
Type=none
Options=bind
[Install]
WantedBy=local-fs.target
`

// containerFiles make a host one that runs containers as NixOS does. The store
// has what the unit shows to containers, and nothing else.
var containerFiles = map[string]struct {
	content string
	mode    os.FileMode
}{
	"/etc/systemd/system/container@.service":         {containerUnit, 0o644},
	"/etc/systemd/system/nix.mount":                  {storeMount, 0o644},
	"/usr/local/libexec/container":                   {containerScript, 0o755},
	StoreDir + "/store/.links/none":                  {"", 0o644},
	StoreDir + "/var/nix/db/db.sqlite":               {"paths", 0o644},
	StoreDir + "/var/nix/daemon-socket/socket":       {"", 0o666},
	StoreDir + "/var/nix/profiles/per-container/.me": {"", 0o644},
}

// containerSetup has systemd know of the files.
var containerSetup = [][]string{{"mkdir", "-p", "/nix", "/etc/nixos-containers"}, {"systemctl", "daemon-reload"}, {"systemctl", "enable", "--now", "nix.mount"}}

// InstallContainers makes the host that the test runs in run containers.
func InstallContainers(t testing.TB) {
	t.Helper()
	if !Inside() {
		t.Fatal("containers of NixOS are for the systemd host")
	}
	for path, f := range containerFiles {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(f.content), f.mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, argv := range containerSetup {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", argv, err, out)
		}
	}
}

// InstallContainers makes a host run containers.
func (h *Host) InstallContainers() error {
	for path, f := range containerFiles {
		source := filepath.Join(h.t.TempDir(), "file")
		if err := os.WriteFile(source, []byte(f.content), f.mode); err != nil {
			return err
		}
		if err := h.Copy(source, path); err != nil {
			return err
		}
	}
	for _, argv := range containerSetup {
		if _, err := h.Run(h.t.Context(), argv...); err != nil {
			return err
		}
	}
	return nil
}
