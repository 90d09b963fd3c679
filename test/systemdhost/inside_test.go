package systemdhost_test

import (
	"os"
	"testing"

	"tekton.host/test/systemdhost"
)

func TestRunInside(t *testing.T) {
	systemdhost.RunInside(t, "^TestSeenFromInside$", nil)
}

// TestSeenFromInside has something to see only inside a host.
func TestSeenFromInside(t *testing.T) {
	if !systemdhost.Inside() {
		return
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		t.Error("PID 1 is not systemd: ", err)
	}
	if _, err := os.Stat("host_test.go"); err != nil {
		t.Error("the package's files are not there: ", err)
	}
	if err := os.WriteFile("written", nil, 0o644); err == nil {
		t.Error("the sources can be written to")
	}
}
