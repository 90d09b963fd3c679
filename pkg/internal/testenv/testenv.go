// Package testenv gives tests of the real rings what they need from the
// machine, and says loudly when it is not there.
package testenv

import (
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
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

// NetNS moves the test's goroutine (and its OS thread, which is not given
// back) into a new network namespace with lo up. Programs started by this
// goroutine run in it; new goroutines do not. What is in it goes with it.
func NetNS(t testing.TB) {
	t.Helper()
	Root(t)
	// Never unlocked: the thread ends with the goroutine, so no other test inherits the namespace.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare a network namespace: %v", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
}
