package supervisetest

import (
	"testing"

	"tekton.host/pkg/internal/testenv"
)

// RequireEnv, when "1", turns every skip of a real ring into a failure.
const RequireEnv = testenv.RequireEnv

// Tests outside pkg, which testenv is closed to, reach it through Root and Main.

// Root demands root and the named programs.
func Root(t testing.TB, programs ...string) {
	t.Helper()
	testenv.Root(t, programs...)
}

// Main runs a package's tests in namespaces of their own.
func Main(m *testing.M) { testenv.Main(m) }
