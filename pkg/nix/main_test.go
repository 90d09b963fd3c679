package nix_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/nix"
)

// TestMain is also the build: the supervisor starts this program as `PROGRAM build DIR`.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "build" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := nix.RunBuild(ctx, os.Args[2], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	testenv.Main(m)
}
