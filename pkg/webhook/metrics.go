package webhook

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics of a Server.
type metrics struct {
	registry   *prometheus.Registry
	deliveries *prometheus.CounterVec
	looks      *prometheus.CounterVec
	swept      prometheus.Gauge
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tekton_webhook_deliveries_total", Help: "Deliveries, by how they were answered.",
		}, []string{"answer"}),
		looks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tekton_webhook_looks_total", Help: "Looks at pull requests and branches; one with an error is repeated.",
		}, []string{"result"}),
		swept: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tekton_webhook_swept_timestamp_seconds", Help: "When all open pull requests were last found out.",
		}),
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	m.registry.MustRegister(m.deliveries, m.looks, m.swept,
		gauge("tekton_webhook_pending", "Pull requests and branches that deliveries named and nobody has looked at.", func() float64 { return float64(s.journal.Len()) }),
		gauge("tekton_webhook_untold", "Pull requests whose forge is still to be told what became of them.", func() float64 { return float64(s.tells.waiting()) }),
		gauge("tekton_webhook_daemon_known", "1 while the daemon is heard.", func() float64 {
			if s.watcher.View().Known {
				return 1
			}
			return 0
		}),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
