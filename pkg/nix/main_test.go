package nix_test

import (
	"fmt"
	"os"
	"testing"

	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/job/jobtest"
	"tekton.host/pkg/nix"
)

// TestMain is also the build: the supervisor starts this program as `PROGRAM build
// DIR`, and that starts it again for what a stranger's code is evaluated by.
func TestMain(m *testing.M) {
	jobtest.Attempt("build", nix.RunBuild)
	if len(os.Args) == 3 && os.Args[1] == nix.EvaluateVerb {
		fmt.Fprintln(os.Stderr, "error:", nix.Evaluate(os.Args[2]))
		os.Exit(1)
	}
	testenv.Main(m)
}
