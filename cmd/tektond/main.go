// Command tektond converges this host to the specs of its sources.
//
// Exit codes: 0 all went well; 1 an error, or with --once an object that is not
// Ready; 78 wrong usage or a wrong configuration. A Go program that crashes, or
// is killed with SIGABRT by systemd's watchdog, ends with 2.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/zapr"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"tekton.host/pkg/activator"
	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/checkout"
	tektond "tekton.host/pkg/daemon"
	"tekton.host/pkg/dns"
	"tekton.host/pkg/host"
	"tekton.host/pkg/nix"
	"tekton.host/pkg/server/wire"
	"tekton.host/pkg/setup"
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
	fmt.Fprintln(os.Stderr, "tektond:", err)
	if _, usage := errors.AsType[usageError](err); usage {
		os.Exit(exitConfig)
	}
	os.Exit(1)
}

func command() *cobra.Command {
	var f tektond.Flags
	var once bool
	var timeout time.Duration
	var verbose int
	cmd := &cobra.Command{
		Use: "tektond", Short: "converges this host to the specs of its sources", SilenceUsage: true, SilenceErrors: true,
		Args: cobra.NoArgs, Version: wire.Build().Version,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := f.Load()
			if err != nil {
				return usageError{err}
			}
			return run(cmd.Context(), f.Config, h, once, timeout, newLog(verbose))
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	fl := cmd.Flags()
	fl.StringVar(&f.Config, "config", "", "Host file; without it every field has its default")
	fl.StringVar(&f.SpecDir, "spec-dir", "", "directory of specs, instead of the configured sources")
	fl.StringVar(&f.StateDir, "state-dir", "", "instead of Host.spec.stateDir")
	fl.StringVar(&f.Socket, "socket", "", "path of the API's socket; its directory becomes Host.spec.runDir")
	fl.BoolVar(&once, "once", false, "converge, then exit: 0 when every object is Ready, else 1")
	fl.DurationVar(&timeout, "timeout", 10*time.Minute, "of --once")
	fl.IntVarP(&verbose, "verbose", "v", 0, "log level: 0 changes, 1 every step of a pass")
	cmd.AddCommand(&cobra.Command{
		Use: "dns DIR", Short: "serve names to machines; started by the daemon", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error { return dns.Serve(cmd.Context(), args[0]) },
	}, &cobra.Command{
		Use: "activator DIR", Short: "let objects sleep until somebody asks for them; started by the daemon", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error { return activator.Serve(cmd.Context(), args[0]) },
	}, &cobra.Command{
		Use: "build DIR", Short: "build a flake; started by the daemon", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error { return nix.RunBuild(cmd.Context(), args[0], os.Stdout) },
	}, &cobra.Command{
		Use: nix.EvaluateVerb + " DOCUMENT", Short: "evaluate a stranger's code; started by a build", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error { return nix.Evaluate(args[0]) },
	}, &cobra.Command{
		Use: "fetch DIR", Short: "fetch a repository; started by the daemon", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return checkout.RunFetch(cmd.Context(), args[0], os.Stdout)
		},
	}, &cobra.Command{
		Use: "setup DIR", Short: "set up a machine; started by the daemon", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error { return setup.Run(cmd.Context(), args[0], os.Stdout) },
	})
	return cmd
}

func run(ctx context.Context, config string, h *v1alpha1.Host, once bool, timeout time.Duration, log logr.Logger) error {
	if os.Geteuid() != 0 {
		return errors.New("tektond makes network links, mounts and cgroups, which needs root; run it as root")
	}
	if err := host.NoDump(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	d, err := tektond.Open(tektond.Options{Host: h.Spec, Config: config, Programs: filepath.Dir(self), Self: self, Version: wire.Build(), Log: log})
	if err != nil {
		return err
	}
	defer d.Close()
	if once {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return d.Once(ctx)
	}
	reload := make(chan struct{}, 1)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	go func() {
		for range hup {
			reload <- struct{}{}
		}
	}()
	return d.Run(ctx, reload)
}

// newLog writes one line an event to stderr.
func newLog(verbose int) logr.Logger {
	c := zap.NewProductionEncoderConfig()
	c.EncodeTime = zapcore.ISO8601TimeEncoder
	c.EncodeLevel = zapcore.CapitalLevelEncoder
	core := zapcore.NewCore(zapcore.NewConsoleEncoder(c), zapcore.Lock(os.Stderr), zapcore.Level(-verbose))
	return zapr.NewLogger(zap.New(core))
}
