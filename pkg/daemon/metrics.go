package daemon

import (
	"context"
	"net"
	"net/http"
	"time"

	"tekton.host/pkg/compile"
	"tekton.host/pkg/metrics"
	"tekton.host/pkg/server/wire"
)

const (
	// metricsRetry after the address could not be had: another program may have
	// it, or the host may get it later. Machines do not wait for that.
	metricsRetry = 15 * time.Second
	// metricsTimeout bounds one request.
	metricsTimeout = 10 * time.Second
)

// metricsView is what a scrape tells of the present.
func (d *Daemon) metricsView() metrics.View {
	v, err := d.view()
	if err != nil {
		return metrics.View{}
	}
	used, cooling := compile.CountSlots(v.Facts.Claims)
	return metrics.View{
		Read: true, Items: v.Result.Items, Sources: d.withGit(v.Result.Sources), Problems: len(v.Result.Problems), Planned: len(v.Result.Plan.Steps),
		Slots: metrics.Slots{Used: used, Cooling: cooling, Total: d.naming.Slots()},
	}
}

// serveMetrics answers on the Host's metrics address until ctx ends.
func (d *Daemon) serveMetrics(ctx context.Context) {
	address := d.opts.Host.Metrics.Address
	if address == "" {
		return
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+wire.PathMetrics, d.metrics.Handler())
	for ctx.Err() == nil {
		srv := &http.Server{Handler: mux, ReadTimeout: metricsTimeout, WriteTimeout: metricsTimeout}
		var config net.ListenConfig
		l, err := config.Listen(ctx, "tcp", address)
		if err == nil {
			stop := context.AfterFunc(ctx, func() { srv.Close() })
			err = srv.Serve(l)
			stop()
		}
		if ctx.Err() != nil {
			return
		}
		d.opts.Log.Error(err, "serve metrics; tried again by itself", "address", address)
		select {
		case <-ctx.Done():
		case <-time.After(metricsRetry):
		}
	}
}
