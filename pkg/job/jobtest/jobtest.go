// Package jobtest has the test program of a driver of jobs be what its
// supervisor starts, too.
package jobtest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Attempt makes the attempt and ends the program when that was started as
// `PROGRAM VERB DIR`, as tektond is; else it does nothing. It is what a TestMain begins with.
func Attempt(verb string, run func(ctx context.Context, dir string, log io.Writer) error) {
	if len(os.Args) != 3 || os.Args[1] != verb {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := run(ctx, os.Args[2], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
