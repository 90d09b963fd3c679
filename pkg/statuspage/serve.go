package statuspage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/go-logr/logr"
	"golang.org/x/net/netutil"

	"tekton.host/pkg/internal/companion"
)

const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	// writeTimeout of a page; streams have one for each thing that they send.
	writeTimeout = 30 * time.Second
	idleTimeout  = time.Minute
	maxHeader    = 16 << 10
	// maxBody of a form.
	maxBody = 4 << 10
	// maxConnections at a time, streams among them.
	maxConnections = 256
	stopTimeout    = 5 * time.Second
)

// Serve shows the page that a configuration says until ctx ends.
func Serve(ctx context.Context, c *Config, log logr.Logger) error {
	s := New(c, log)
	l, err := companion.Listen(c.Listen)
	if err != nil {
		return fmt.Errorf("listen for browsers: %w", err)
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	s.stop = running.Done()
	web := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
	}
	failed := make(chan error, 1)
	go func() {
		failed <- web.Serve(netutil.LimitListener(l, maxConnections))
		stop()
	}()
	context.AfterFunc(running, func() { daemon.SdNotify(false, daemon.SdNotifyStopping) })
	log.Info("listening", "address", c.Listen)
	daemon.SdNotify(false, daemon.SdNotifyReady)
	s.Run(running)
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	web.Shutdown(ending)
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", c.Listen, err)
	}
	return nil
}
