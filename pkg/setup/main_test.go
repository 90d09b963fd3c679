package setup_test

import (
	"testing"

	"tekton.host/pkg/job/jobtest"
	"tekton.host/pkg/setup"
	"tekton.host/test/systemdhost"
)

// TestMain is also the setup: the supervisor starts this program as `PROGRAM setup DIR`.
func TestMain(m *testing.M) {
	jobtest.Attempt("setup", setup.Run)
	systemdhost.Main(m)
}
