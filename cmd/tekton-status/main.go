// Command tekton-status shows in a browser what the daemon does. It needs no
// privileges: it asks the daemon over its narrow sockets.
//
// Exit codes: 0 it was told to end, or --check found nothing; 1 an error; 78
// wrong usage or a wrong configuration, which does not get better by trying again.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/zapr"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"tekton.host/pkg/host"
	"tekton.host/pkg/server/wire"
	"tekton.host/pkg/statuspage"
)

// exitConfig is EX_CONFIG: systemd does not try again.
const exitConfig = 78

type usageError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := command().ExecuteContext(ctx)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "tekton-status:", err)
	if _, usage := errors.AsType[usageError](err); usage {
		os.Exit(exitConfig)
	}
	os.Exit(1)
}

func command() *cobra.Command {
	var config string
	var check, allowRoot bool
	cmd := &cobra.Command{
		Use: "tekton-status", Short: "shows in a browser what the daemon does", SilenceUsage: true, SilenceErrors: true,
		Args: cobra.NoArgs, Version: wire.Build().Version,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := statuspage.LoadConfig(config)
			if err != nil {
				return usageError{err}
			}
			if check {
				return c.Check(cmd.Context())
			}
			if os.Geteuid() == 0 && !allowRoot {
				return usageError{errors.New("it needs no privileges and refuses to have them: run it as a user of its own, as its systemd unit does, or with --allow-root")}
			}
			return run(cmd.Context(), c)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	fl := cmd.Flags()
	fl.StringVar(&config, "config", "/etc/tekton/status.yaml", "configuration")
	fl.BoolVar(&check, "check", false, "check the configuration, the token and that the daemon answers, then exit")
	fl.BoolVar(&allowRoot, "allow-root", false, "run as root all the same")
	return cmd
}

func run(ctx context.Context, c *statuspage.Config) error {
	if err := host.NoDump(); err != nil {
		return err
	}
	e := zap.NewProductionEncoderConfig()
	e.EncodeTime = zapcore.ISO8601TimeEncoder
	e.EncodeLevel = zapcore.CapitalLevelEncoder
	core := zapcore.NewCore(zapcore.NewConsoleEncoder(e), zapcore.Lock(os.Stderr), zapcore.InfoLevel)
	return statuspage.Serve(ctx, c, zapr.NewLogger(zap.New(core)))
}
