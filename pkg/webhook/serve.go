package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/go-logr/logr"

	"tekton.host/pkg/client"
	"tekton.host/pkg/internal/companion"
)

const (
	headerTimeout = 5 * time.Second
	readTimeout   = answerWithin
	writeTimeout  = 15 * time.Second
	idleTimeout   = time.Minute
	maxHeader     = 32 << 10
	// stopTimeout for deliveries under way.
	stopTimeout = 10 * time.Second
)

// Serve runs what a configuration says until ctx ends.
func Serve(ctx context.Context, c *Config, log logr.Logger) error {
	forges, err := c.forges()
	if err != nil {
		return err
	}
	teller, err := NewFeedback(FeedbackOptions{State: c.State, Instance: c.Instance, NoLogs: c.NoLogs, Log: log})
	if err != nil {
		return err
	}
	s, err := New(Options{
		Specs: c.Specs, State: c.State, Forges: forges, Daemon: client.New(c.Socket), Teller: teller, Max: c.Max, Sweep: c.Sweep.Duration, Log: log,
	})
	if err != nil {
		return err
	}
	defer s.Close()
	// The lock of the state directory says that a socket there is no other one's of ours.
	l, err := companion.Listen(c.Listen)
	if err != nil {
		return fmt.Errorf("listen for deliveries: %w", err)
	}
	web := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, 1)
	go func() {
		failed <- web.Serve(l)
		stop()
	}()
	context.AfterFunc(running, func() {
		daemon.SdNotify(false, daemon.SdNotifyStopping)
	})
	log.Info("listening", "address", c.Listen)
	daemon.SdNotify(false, daemon.SdNotifyReady)
	s.Run(running)
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	web.Shutdown(ending) // who has been answered with 202 is in the journal
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", c.Listen, err)
	}
	return nil
}
