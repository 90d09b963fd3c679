package systemdhost

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tekton.host/pkg/supervise/supervisetest"
)

const (
	// CacheEnv overrides where built userlands are kept.
	CacheEnv     = "TEKTON_CACHE"
	defaultCache = "/var/cache/tekton-test"

	suite   = "trixie"
	keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
)

// packages of the userland.
var packages = []string{
	"systemd", "systemd-sysv", "dbus", "systemd-container", "iproute2", "nftables", "procps", "kmod",
	"ca-certificates", "curl", "passwd", "util-linux", "caddy", "postgresql", "busybox-static", "e2fsprogs",
	"git", "nano", "rsync", "vim-tiny", // what edits directories of specs
	"openssh-client", "openssh-server", // agents
	"python3",          // what the quickstart serves with
	"strace",           // sees every program that starts
	"systemd-resolved", // masked; for tests that want it
}

// masked units only cost time in a host of half a second: together 2 s.
var masked = []string{
	"systemd-tmpfiles-setup-dev.service", "systemd-tmpfiles-setup-dev-early.service",
	"dev-hugepages.mount", "dev-mqueue.mount", "run-lock.mount", "tmp.mount",
	"sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount", "sys-fs-fuse-connections.mount",
	"modprobe@configfs.service", "modprobe@efi_pstore.service", "modprobe@fuse.service", "modprobe@drm.service",
	"ldconfig.service", "systemd-journal-catalog-update.service", "systemd-journal-flush.service",
	"systemd-update-done.service", "systemd-sysusers.service", "systemd-update-utmp.service",
	"systemd-hostnamed.service", "console-getty.service", "systemd-logind.service",
	"systemd-resolved.service",
	"apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service", "dpkg-db-backup.timer",
}

// disabled services are there to be started by tests.
var disabled = []string{"caddy.service", "postgresql.service", "ssh.service"}

// written files, by path.
var written = map[string]string{
	"etc/hostname":    "tekton-test\n",
	"etc/resolv.conf": "nameserver 192.0.2.53\n", // not systemd-resolved's
	"etc/systemd/journald.conf.d/volatile.conf":  "[Journal]\nStorage=volatile\n",
	"etc/systemd/system.conf.d/short-stops.conf": "[Manager]\nDefaultTimeoutStopSec=10s\n",
}

func cacheDir() string {
	if dir := os.Getenv(CacheEnv); dir != "" {
		return dir
	}
	return defaultCache
}

// recipe names the userland by all that goes into it.
func recipe() string {
	h := sha256.New()
	fmt.Fprintln(h, suite, packages, masked, disabled, written)
	return suite + "-" + hex.EncodeToString(h.Sum(nil))[:12]
}

// Main runs a package's tests as supervisetest.Main does, with the userland
// built before: the tests' own network namespace has no way to a mirror.
// Use: func TestMain(m *testing.M) { systemdhost.Main(m) }.
func Main(m *testing.M) {
	if os.Geteuid() == 0 && !Inside() && !isolated() {
		logf := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
		if _, err := buildTree(logf); err != nil {
			logf("build the userland of the systemd host: %v", err)
		}
	}
	supervisetest.Main(m)
}

// Tree returns the built userland, building it when it is not there yet. Only
// one process builds; the others wait for it.
func Tree(t testing.TB) string {
	t.Helper()
	if tree := treePath(); exists(tree) {
		return tree
	}
	if isolated() {
		t.Fatalf("the userland of the systemd host is not built, and here is no network to build it; TestMain has to call systemdhost.Main")
	}
	tree, err := buildTree(t.Logf)
	if err != nil {
		t.Fatalf("build the userland of the systemd host: %v", err)
	}
	return tree
}

func treePath() string { return filepath.Join(cacheDir(), recipe()) }

func buildTree(logf func(string, ...any)) (string, error) {
	tree := treePath()
	if exists(tree) {
		return tree, nil
	}
	if err := os.MkdirAll(cacheDir(), 0o755); err != nil {
		return "", err
	}
	lock, err := lockFile(tree+".lock", syscall.LOCK_EX)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if exists(tree) {
		return tree, nil
	}
	building := tree + ".building"
	if err := os.RemoveAll(building); err != nil {
		return "", err
	}
	begin := time.Now()
	logf("building %s (once, about a minute)", tree)
	if err := debootstrap(building); err != nil {
		return "", err
	}
	if err := trim(building); err != nil {
		return "", err
	}
	logf("built in %v", time.Since(begin).Round(time.Second))
	return tree, os.Rename(building, tree)
}

func debootstrap(dir string) error {
	mirror, err := mirrorOf("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list")
	if err != nil {
		return err
	}
	argv := []string{
		"--variant=minbase", "--mode=root", "--format=directory",
		"--include=" + strings.Join(packages, ","),
		"--dpkgopt=force-unsafe-io",
		"--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		`--aptopt=APT::Install-Recommends "false"`,
		suite, dir,
		fmt.Sprintf("deb [signed-by=%s] %s %s main", keyring, mirror, suite),
	}
	cmd := exec.Command("mmdebstrap", argv...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mmdebstrap: %w: %s", err, out[max(0, len(out)-2000):])
	}
	return nil
}

// mirrorOf returns the package mirror that this machine itself is set up with.
func mirrorOf(files ...string) (string, error) {
	for _, name := range files {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			words := strings.Fields(lines.Text())
			if len(words) == 0 || words[0] != "URIs:" && words[0] != "deb" {
				continue
			}
			for _, w := range words[1:] {
				if strings.Contains(w, "://") {
					return w, nil
				}
			}
		}
	}
	return "", fmt.Errorf("no package mirror in %v", files)
}

// trim takes out of a fresh userland what a test host does not need at boot.
func trim(tree string) error {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	const units = "etc/systemd/system/"
	for _, unit := range masked {
		if err := root.Symlink("/dev/null", units+unit); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	for _, unit := range disabled {
		if err := root.Remove(units + "multi-user.target.wants/" + unit); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for name, content := range written {
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err // a link may lead to what another unit makes
		}
		if err := root.WriteFile(name, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// lockFile opens and locks a file; closing it lets go.
func lockFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
