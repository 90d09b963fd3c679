// Package nixtest gives tests a Nix store of their own.
package nixtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/internal/testenv"
)

// config of a Nix without network, channels and registry.
const config = `experimental-features = nix-command flakes
sandbox = true
substituters =
build-users-group =
flake-registry = CONF/registry.json
warn-dirty = false
`

// Store puts an empty store at /nix, in the mount namespace of this process
// only (testenv.Main), with a configuration that needs no network. Programs find
// the latter in NIX_CONF_DIR, which is returned.
func Store(t testing.TB) (confDir string) {
	t.Helper()
	testenv.Root(t, "nix", "nix-daemon")
	dir := t.TempDir()
	if err := os.MkdirAll("/nix", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(dir, "/nix", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/nix", unix.MNT_DETACH) })
	confDir = t.TempDir()
	for name, text := range map[string]string{
		"nix.conf": strings.ReplaceAll(config, "CONF", confDir), "registry.json": `{"flakes":[],"version":2}`,
	} {
		if err := os.WriteFile(filepath.Join(confDir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for d := confDir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { // for evaluators without privileges
			t.Fatal(err)
		}
	}
	t.Setenv("NIX_CONF_DIR", confDir)
	// Not "auto": a Nix that finds no state yet would look for a daemon.
	Run(t, "nix-store", "--init")
	return confDir
}

// Run runs a program of Nix as root on the store itself and returns its output.
func Run(t testing.TB, argv ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "NIX_REMOTE=local", "HOME="+t.TempDir())
	cmd.WaitDelay = time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// Add puts a file into the store and returns its path; nothing keeps it.
func Add(t testing.TB, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return Run(t, "nix-store", "--add", file)
}

// Collect runs the garbage collector.
func Collect(t testing.TB) { t.Helper(); Run(t, "nix-store", "--gc") }

// Flake copies a flake of test/flakes, with a static busybox as its tools, and
// returns its directory, which anybody may read.
func Flake(t testing.TB, name, version string) string {
	t.Helper()
	testenv.Root(t, "busybox")
	dir := t.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_, here, _, _ := runtime.Caller(0)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(filepath.Dir(here), "../../../test/flakes", name))); err != nil {
		t.Fatal(err)
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "tools"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "tools/busybox"), raw, 0o755)
	write(t, filepath.Join(dir, "version"), []byte(version), 0o644)
	write(t, filepath.Join(dir, "platform"), []byte(Run(t, "nix", "eval", "--raw", "--impure", "--expr", "builtins.currentSystem")), 0o644)
	return dir
}

func write(t testing.TB, path string, raw []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, raw, mode); err != nil {
		t.Fatal(err)
	}
}
