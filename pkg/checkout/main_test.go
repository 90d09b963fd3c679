package checkout_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"tekton.host/pkg/checkout"
	"tekton.host/pkg/internal/testenv"
)

// TestMain is also the fetch: the supervisor starts this program as `PROGRAM fetch DIR`.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "fetch" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := checkout.RunFetch(ctx, os.Args[2], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	testenv.Main(m)
}
