// Package testenv gives tests of the real rings what they need from the
// machine, and says loudly when it is not there.
package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/vishvananda/netlink"
)

// RequireEnv, when "1", turns every skip of a real ring into a failure.
const RequireEnv = "TEKTON_TEST_REQUIRE"

// Root demands root and the named programs. Without them the test is skipped
// loudly, or fails when RequireEnv is set.
func Root(t testing.TB, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "needs root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing(t, "needs "+p+" (hack/deps.sh installs it)")
		}
	}
}

func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv(RequireEnv) == "1" {
		t.Fatalf("%s, and %s=1 forbids skipping", why, RequireEnv)
	}
	t.Skipf("SKIPPED: %s", why)
}

// isolatedEnv marks the re-executed test process.
const isolatedEnv = "TEKTON_TEST_ISOLATED"

// Main runs the tests of a package that touches the host in network, mount and
// PID namespaces of their own: what they leave behind ends with the process,
// also when it is killed. Without root it runs them as they are; they skip
// through Root. Use: func TestMain(m *testing.M) { testenv.Main(m) }.
func Main(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	if os.Getenv(isolatedEnv) == "" {
		os.Exit(reexec())
	}
	if err := loopbackUp(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func reexec() int {
	// A shell is PID 1: it reaps what the tests orphan. As zombies those would
	// look alive, to PostgreSQL for instance, which finds its own predecessor.
	argv := append([]string{"--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c", `"$@"; exit $?`, "sh"}, os.Args...)
	cmd := exec.Command("unshare", argv...)
	cmd.Env = append(os.Environ(), isolatedEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return 1
	}
	return 0
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}
