package setup_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"tekton.host/pkg/setup"
	"tekton.host/test/systemdhost"
)

// TestMain is also the setup: the supervisor starts this program as `PROGRAM setup DIR`.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "setup" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := setup.Run(ctx, os.Args[2], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	systemdhost.Main(m)
}
