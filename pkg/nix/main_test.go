package nix_test

import (
	"testing"

	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/job/jobtest"
	"tekton.host/pkg/nix"
)

// TestMain is also the build: the supervisor starts this program as `PROGRAM build DIR`.
func TestMain(m *testing.M) {
	jobtest.Attempt("build", nix.RunBuild)
	testenv.Main(m)
}
