package nix

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"tekton.host/pkg/internal/testenv"
)

const stranger = 65534

// within runs a shell's script as a stranger's code is run, and returns what it says.
func within(t *testing.T, script string) []string {
	t.Helper()
	testenv.Root(t)
	c := &client{build: &build{}}
	c.build.Dir, c.build.UID, c.build.GID = t.TempDir(), stranger, stranger
	c.build.log, c.build.Out = newLogReader(), os.Stderr
	if err := errors.Join(os.Mkdir(c.home(), 0o700), os.Chown(c.home(), stranger, stranger), writeConfig(c.config(), "{ }")); err != nil {
		t.Fatal(err)
	}
	c.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.home(), "CONFIG=" + c.config()}
	out, err := c.run(context.Background(), command{argv: []string{"sh", "-c", script + "; true"}, env: c.isolatedEnv(), evaluator: true, isolated: true})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

// TestIsolated looks around in there, with more than what a stranger's code has:
// any program of the userland.
func TestIsolated(t *testing.T) {
	t.Setenv("CANARY", "canary")
	for name, tt := range map[string]struct{ script, want string }{
		"files":       {"ls / | grep -vxE 'bin|sbin|lib.*|usr|nix|run'", "dev proc tmp"},
		"host":        {"cat /etc/shadow /etc/hostname /var/lib/dpkg/status /sys/kernel/mm 2>&- | wc -c", "0"},
		"processes":   {"echo /proc/[0-9]*", "/proc/1"},
		"environment": {"tr '\\0' '\\n' </proc/1/environ | cut -d= -f1 | sort | xargs", "CONFIG GC_MAXIMUM_HEAP_SIZE GC_NPROCS HOME NIX_CONF_DIR PATH"},
		"kernel":      {"ls -d /proc/sys /proc/cmdline /proc/kcore 2>&- | wc -l", "0"},
		"network":     {"tail -n +3 /proc/self/net/dev | grep -vc ' lo:'; grep -c . /proc/self/net/unix", "0 1"},
		"name":        {"uname -n", "evaluation"},
		"user":        {"grep -E '^(Uid|Gid|Groups|CapEff|CapPrm|NoNewPrivs)' /proc/self/status", "Uid: 65534 65534 65534 65534 Gid: 65534 65534 65534 65534 Groups: CapPrm: 0000000000000000 CapEff: 0000000000000000 NoNewPrivs: 1"},
		"limits":      {"ulimit -c; ulimit -d", "0 5242880"},
		"writes":      {"for f in $HOME/x $CONFIG/x $CONFIG/preview-config.nix /usr/x /x /proc/x; do (echo >$f) 2>&- && basename $f; done", "x"},
	} {
		got := within(t, tt.script)
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %s\nwant %s", name, strings.Join(got, " "), tt.want)
		}
	}
	for _, name := range []string{"cgroup", "ipc", "mnt", "net", "pid", "uts"} {
		ours, err := os.Readlink("/proc/self/ns/" + name)
		if got := within(t, "readlink /proc/self/ns/"+name); err != nil || len(got) != 1 || got[0] == ours {
			t.Errorf("it shares the namespace %s %s (%v)", name, got, err)
		}
	}
}
