package webhook

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/go-logr/logr"

	"tekton.host/pkg/client"
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
	l, err := c.listen()
	if err != nil {
		return err
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

// listen where deliveries come.
func (c *Config) listen() (net.Listener, error) {
	network, address, err := c.address()
	if err != nil {
		return nil, err
	}
	if network == "unix" {
		// The lock of the state directory says that it is not another one's of ours.
		if info, err := os.Lstat(address); err == nil && info.Mode().Type() == fs.ModeSocket {
			os.Remove(address)
		}
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("listen for deliveries: %w", err)
	}
	if network == "unix" {
		// The reverse proxy is of the directory's group, or nobody but us comes in.
		if err := os.Chmod(address, 0o660); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}
