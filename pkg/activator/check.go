package activator

import (
	"net/http"
	"strings"
)

// monitors are parts of what programs call themselves that only look whether
// something answers, in lower case.
var monitors = []string{
	"amazon-route53-health-check", "better uptime", "betterstack", "blackbox exporter", "blackbox-exporter", "check_http", "checkly",
	"consul health check", "datadogsynthetics", "elb-healthchecker", "envoy/hc", "gatus/", "googlehc", "googlestackdrivermonitoring", "health check",
	"healthcheck", "hetrixtools", "kube-probe", "newrelicpinger", "nodeping", "pingdom", "prometheus/", "site24x7", "statuscake", "updown.io",
	"uptime-kuma", "uptimebot", "uptimerobot", "zabbix",
}

// check reports whether a request only asks whether the application is there:
// HEAD, the path that tekton itself probes unless a browser shows it, or a
// program that is known to do nothing else. OPTIONS is none: a browser asks so
// before the request that it is about, which would never come.
func (g *gate) check(r *http.Request, port int) bool {
	if r.Method == http.MethodHead {
		return true
	}
	probed := g.Value.HealthPath != "" && g.Value.HealthPath != "/" && r.URL.Path == g.Value.HealthPath && port == g.Value.HealthPort
	if probed && r.Method == http.MethodGet && !wantsPage(r) {
		return true
	}
	agent := strings.ToLower(r.UserAgent())
	for _, m := range monitors {
		if strings.Contains(agent, m) {
			return true
		}
	}
	return false
}

// wantsPage reports whether a person looks at what comes, and can be shown a page.
func wantsPage(r *http.Request) bool {
	return r.Method == http.MethodGet && r.Header.Get("Upgrade") == "" && strings.Contains(r.Header.Get("Accept"), "text/html")
}
