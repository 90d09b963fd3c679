package metrics

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tekton.host/pkg/resource"
)

// Buckets in seconds. A pass takes milliseconds, a step up to the hour of a dump.
var (
	quick = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}
	slow  = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800}
)

// Metrics of one daemon.
type Metrics struct {
	registry     *prometheus.Registry
	passes       prometheus.Histogram
	passFailures prometheus.Counter
	looks        *prometheus.HistogramVec
	steps        *prometheus.HistogramVec
	stepFailures *prometheus.CounterVec
}

// New returns the metrics of a daemon of this version; view is asked at each scrape.
func New(version string, view func() View) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		passes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tekton_pass_duration_seconds", Help: "Passes of the planner: what is wanted compared with what is.", Buckets: quick,
		}),
		passFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tekton_pass_failures_total", Help: "Passes that could not plan anything, such as with an unreadable ledger.",
		}),
		looks: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tekton_look_duration_seconds", Help: "Looks at the host, at a source or at the secrets.", Buckets: quick,
		}, []string{"input"}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tekton_step_duration_seconds", Help: "Steps that changed something of the host; of steps that are applied together, each as long as all.", Buckets: slow,
		}, []string{"kind", "verb"}),
		stepFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tekton_step_failures_total", Help: "Steps that failed; they are tried again.",
		}, []string{"kind", "verb", "reason"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tekton_build_info", Help: "1, with the version of the daemon.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(m.passes, m.passFailures, m.looks, m.steps, m.stepFailures, build, stateOf(view),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves the metrics in Prometheus' text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// Pass implements reconcile.Meter.
func (m *Metrics) Pass(took time.Duration, err error) {
	m.passes.Observe(took.Seconds())
	if err != nil {
		m.passFailures.Inc()
	}
}

// Look implements reconcile.Meter.
func (m *Metrics) Look(input string, took time.Duration) {
	m.looks.WithLabelValues(input).Observe(took.Seconds())
}

// Step implements reconcile.Meter. A step that was overtaken is no failure.
func (m *Metrics) Step(s resource.Step, took time.Duration, err error) {
	kind, verb := string(s.Resource.Kind), string(s.Verb)
	m.steps.WithLabelValues(kind, verb).Observe(took.Seconds())
	if err != nil && !errors.Is(err, resource.ErrStale) && !errors.Is(err, context.Canceled) {
		m.stepFailures.WithLabelValues(kind, verb, resource.Reason(err, "StepFailed")).Inc()
	}
}
