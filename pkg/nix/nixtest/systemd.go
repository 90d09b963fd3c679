package nixtest

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// systemdPrograms boot a machine, and are what is asked for inside.
var systemdPrograms = []string{
	"/usr/lib/systemd/systemd", "/usr/lib/systemd/systemd-executor", "/usr/lib/systemd/systemd-journald", "/usr/lib/systemd/systemd-shutdown",
	"/usr/bin/systemctl", "/usr/bin/journalctl",
}

// systemdUnits of a system that does nothing of itself.
var systemdUnits = []string{
	"basic.target", "exit.target", "final.target", "halt.target", "local-fs.target", "multi-user.target", "paths.target", "poweroff.target", "reboot.target",
	"shutdown.target", "slices.target", "sockets.target", "sysinit.target", "systemd-exit.service", "systemd-halt.service", "systemd-poweroff.service",
	"systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket", "timers.target", "umount.target",
}

var libraryPath = regexp.MustCompile(`(?m)(/\S+) \(0x`)

// sshdPrograms log people in.
var sshdPrograms = []string{"/usr/sbin/sshd", "/usr/lib/openssh/sshd-session", "/usr/lib/openssh/sshd-auth"}

// Systemd adds this host's systemd and sshd to a flake that Flake has returned,
// for systems that are to boot.
func Systemd(t testing.TB, flake string) {
	t.Helper()
	tree := filepath.Join(flake, "systemd")
	for _, program := range slices.Concat(systemdPrograms, sshdPrograms) {
		if _, err := os.Stat(program); errors.Is(err, fs.ErrNotExist) {
			continue // of other versions
		}
		place(t, tree, program)
		out, err := exec.Command("ldd", program).Output()
		if err != nil {
			t.Fatalf("ldd %s: %v", program, err)
		}
		for _, m := range libraryPath.FindAllSubmatch(out, -1) {
			place(t, tree, string(m[1]))
		}
	}
	for _, unit := range systemdUnits {
		place(t, tree, "/usr/lib/systemd/system/"+unit)
	}
	units := filepath.Join(tree, "usr/lib/systemd/system")
	for link, target := range map[string]string{
		"default.target": "multi-user.target", "sysinit.target.wants/systemd-journald.service": "../systemd-journald.service",
		"sockets.target.wants/systemd-journald.socket": "../systemd-journald.socket", "sockets.target.wants/systemd-journald-dev-log.socket": "../systemd-journald-dev-log.socket",
	} {
		path := filepath.Join(units, link)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path)); err != nil {
			t.Fatal(err)
		}
	}
}

// place copies a file of the host into a tree, where a host with a merged /usr has it.
func place(t testing.TB, tree, path string) {
	t.Helper()
	if filepath.Dir(filepath.Dir(path)) == "/lib" || filepath.Dir(path) == "/lib64" || filepath.Dir(path) == "/lib" {
		path = "/usr" + path
	}
	to := filepath.Join(tree, path)
	if _, err := os.Stat(to); err == nil {
		return
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, to, raw, info.Mode().Perm())
}
