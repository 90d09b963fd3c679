package e2e_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/test/systemdhost"
)

// containerAttempts are ways out that end otherwise in a container of NixOS: its
// init is the first process, which it may trace as any of its own.
var containerAttempts = map[string]string{
	"read /proc/1/root/proc/version": "ok", "trace the first": "ok", "mount overlay": "ok|EPERM|EINVAL",
	"volume with devices": "ok", // there is no nodev to ask the unit for; its device policy refuses them
}

// containerMounts are what an untrusted one has of the host's file systems:
// besides its root and volume, the guarded paths of the root, and the store. What
// the unit shows of the host's Nix is covered.
var containerMounts = []string{
	"/ rw", "/data rw", "/etc rw", "/etc/machine-id rw", "/nix/store ro", "/root rw", "/run/tekton-environment ro", "/run/tekton/init ro",
	"/usr rw", "/usr/bin rw", "/var rw", "/var/lib rw", "/var/lib/private rw",
}

// TestNixOSContainerInside has the root of an untrusted container look around and
// try what would lead out, as TestInside has that of a machine of tekton's own.
func TestNixOSContainerInside(t *testing.T) {
	if !systemdhost.Inside() {
		return
	}
	t.Parallel()
	k := nixos(t)
	k.write("all.yaml", k.guestOf(v1alpha1.RuntimeNixOSContainer, "n", "volumes: [{name: data, path: /data, deletionPolicy: Delete}]"))
	k.ready("n")
	r := k.inside("n")
	if caps := capabilityMask(); r.Status["CapBnd"] != caps || r.Status["CapEff"] != caps || r.Status["Seccomp"] != "2" {
		t.Errorf("the container's root: %v, expected the capabilities %s and a filter", r.Status, caps)
	}
	attempts := maps.Clone(insideAttempts)
	maps.Copy(attempts, containerAttempts)
	for name, got := range r.Attempts {
		if !slices.Contains(strings.Split(attempts[name], "|"), got) {
			t.Errorf("%s: %s, expected %s", name, got, attempts[name])
		}
	}
	for where, files := range r.Writable {
		for _, f := range files {
			if !insideWritable[where].MatchString(f) {
				t.Errorf("%s: %s can be written", where, f)
			}
		}
	}
	for _, d := range r.Devices {
		if !slices.Contains(insideDevices, d) && !strings.HasPrefix(d, "/dev/pts/") {
			t.Errorf("device %s", d)
		}
	}
	covered := regexp.MustCompile(`^/nix/var/nix/(daemon-socket|db|gcroots|profiles) `)
	over := map[string]string{}
	for _, m := range r.Mounts { // the last of a place is what is seen there
		f := strings.Fields(m)
		over[f[0]] = m
	}
	var disks []string
	for _, m := range over {
		switch f := strings.Fields(m); {
		case covered.MatchString(m) && f[1] == "tmpfs":
		case !kernelOwn.MatchString(m) && !strings.HasPrefix(m, "/run/host/"):
			disks = append(disks, f[0]+" "+strings.Split(f[2], ",")[0])
		}
	}
	slices.Sort(disks)
	if diff := cmp.Diff(containerMounts, disks); diff != "" {
		t.Errorf("mounts of the host's file systems (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"exe", "init"}, r.Processes); diff != "" || len(r.Descriptors) > 0 {
		t.Errorf("processes (-want +got):\n%s\ndescriptors %q", diff, r.Descriptors)
	}
	// A device in its volume is none: this one, of FUSE, anybody may open elsewhere.
	k.check(unix.Mknod(k.state("volumes/container/n/data/fuse"), unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))))
	if out, err := k.ask("n", "/read", "path", "/data/fuse"); err == nil || !strings.Contains(err.Error(), "not permitted") {
		t.Errorf("a device in a volume: %q %v", out, err)
	}
}
