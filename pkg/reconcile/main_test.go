package reconcile

import (
	"os"
	"runtime/debug"
	"testing"
)

// TestMain lets garbage grow: hundred thousands of small worlds come and go,
// and a fifth of the time went into collecting them.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	os.Exit(m.Run())
}
