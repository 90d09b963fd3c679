package checkout_test

import (
	"testing"

	"tekton.host/pkg/checkout"
	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/job/jobtest"
)

// TestMain is also the fetch: the supervisor starts this program as `PROGRAM fetch DIR`.
func TestMain(m *testing.M) {
	jobtest.Attempt("fetch", checkout.RunFetch)
	testenv.Main(m)
}
