package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"sigs.k8s.io/yaml"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

func item(name, uid string, phase v1alpha1.Phase, ready v1alpha1.ConditionStatus) v1alpha1.Item {
	return v1alpha1.Item{
		TypeMeta: v1alpha1.TypeMeta{Kind: v1alpha1.KindContainer}, Metadata: v1alpha1.ItemMeta{Name: name, UID: uid},
		Status: v1alpha1.Status{Phase: phase, Conditions: []v1alpha1.Condition{
			{Type: v1alpha1.ConditionReady, Status: ready},
			{Type: v1alpha1.ConditionRolledBack, Status: v1alpha1.ConditionFalse},
		}},
	}
}

func sample() View {
	web := item("web", "u1", v1alpha1.PhaseReady, v1alpha1.ConditionTrue)
	web.Status.StartedAt, web.Status.Restarts = time.Unix(1700000000, 0), 2
	web.Status.Build = &v1alpha1.BuildStatus{StartedAt: time.Unix(1700000000, 0), EndedAt: time.Unix(1700000042, 0)}
	web.Status.Certificates = []v1alpha1.CertificateStatus{{Host: "web.test", NotAfter: time.Unix(1800000000, 0)}, {Host: "lost.test"}}
	api := item("api", "u2", v1alpha1.PhaseStarting, v1alpha1.ConditionFalse)
	api.Status.Certificates = web.Status.Certificates[:1] // another path of the same host
	return View{
		Read: true, Planned: 3, Problems: 1, Slots: Slots{Used: 2, Cooling: 1, Total: 10},
		Items: []v1alpha1.Item{
			web,
			item("web", "", v1alpha1.PhaseRejected, v1alpha1.ConditionFalse), // the name of another
			api,
			item("api", "u3", v1alpha1.PhaseDeleting, v1alpha1.ConditionFalse),
			item("asleep", "u4", v1alpha1.PhaseAsleep, v1alpha1.ConditionTrue),
			item("off", "u5", v1alpha1.PhaseDisabled, v1alpha1.ConditionFalse),
			item("over", "u6", v1alpha1.PhaseExpired, v1alpha1.ConditionFalse),
			item("going", "u7", v1alpha1.PhaseDeleting, v1alpha1.ConditionFalse),
		},
		Sources: []v1alpha1.SourceStatus{
			{Name: "local", Complete: true, Objects: 2, Held: []v1alpha1.Ref{{Kind: "Container", Name: "x"}}},
			{Name: "apps", Objects: 1, Git: &v1alpha1.GitStatus{Commit: "0123abc", Rejected: "abc", Error: "commit abc is not used", SyncedAt: time.Unix(1700000001, 0), CommittedAt: time.Unix(1699999999, 0)}},
			{Name: "still", Complete: true, Git: &v1alpha1.GitStatus{Error: "no route to host", SyncedAt: time.Unix(1700000001, 0), Suspended: true}},
		},
	}
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("a scrape answers %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestScrape(t *testing.T) {
	m := New("v1", sample)
	m.Pass(20*time.Millisecond, nil)
	m.Pass(time.Millisecond, errors.New("the ledger cannot be read"))
	m.Look("network", time.Millisecond)
	unit := resource.Step{Verb: resource.Put, Resource: resource.New("u1", "web-1", "web-1", resource.Unit{})}
	m.Step(unit, time.Second, nil)
	m.Step(unit, time.Second, resource.Because("StartFailed", errors.New("no")))
	m.Step(unit, time.Second, resource.ErrStale)
	m.Step(unit, time.Second, context.Canceled)
	text := scrape(t, m)
	for _, line := range []string{
		`tekton_build_info{version="v1"} 1`,
		`tekton_host_read 1`,
		`tekton_steps_planned 3`,
		`tekton_spec_problems 1`,
		`tekton_slots{state="free"} 7`,
		`tekton_pass_duration_seconds_count 2`,
		`tekton_pass_failures_total 1`,
		`tekton_look_duration_seconds_count{input="network"} 1`,
		`tekton_step_duration_seconds_count{kind="unit",verb="put"} 4`,
		`tekton_step_failures_total{kind="unit",reason="StartFailed",verb="put"} 1`,
		`tekton_objects{kind="Container",phase="Rejected"} 1`,
		`tekton_object_conditions{kind="Container",status="False",type="RolledBack"} 8`,
		`tekton_object_ready{kind="Container",name="web"} 1`,
		`tekton_object_ready{kind="Container",name="api"} 0`,
		`tekton_object_ready{kind="Container",name="asleep"} 1`,
		`tekton_object_restarts{kind="Container",name="off"} 0`,
		`tekton_object_restarts{kind="Container",name="web"} 2`,
		`tekton_object_start_time_seconds{kind="Container",name="web"} 1.7e+09`,
		`tekton_object_build_duration_seconds{kind="Container",name="web"} 42`,
		`tekton_certificate_expiry_time_seconds{host="web.test"} 1.8e+09`,
		`tekton_certificate_expiry_time_seconds{host="lost.test"} 0`,
		`tekton_source_complete{source="apps"} 0`,
		`tekton_source_held_deletes{source="local"} 1`,
		`tekton_source_rejected{source="apps"} 1`,
		`tekton_source_failing{source="apps"} 1`,
		`tekton_source_commit_info{commit="0123abc",source="apps"} 1`,
		`tekton_source_commit_time_seconds{source="apps"} 1.699999999e+09`,
		`tekton_source_sync_time_seconds{source="apps"} 1.700000001e+09`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("a scrape lacks %q", line)
		}
	}
	for _, start := range []string{
		`tekton_object_ready{kind="Container",name="off"}`, `tekton_object_ready{kind="Container",name="over"}`, `tekton_object_ready{kind="Container",name="going"}`,
		`tekton_source_sync_time_seconds{source="still"}`, `tekton_source_failing{source="still"}`,
	} {
		if strings.Contains(text, start) {
			t.Errorf("a scrape tells %s: an alert would be false", start)
		}
	}
	if n := strings.Count(text, "tekton_step_failures_total{"); n != 1 {
		t.Errorf("%d kinds of failures told, want 1: what was overtaken has not failed", n)
	}
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
}

// TestUnreadHost: before the first look nothing is told of objects, for a zero
// would be a lie that alerts believe.
func TestUnreadHost(t *testing.T) {
	text := scrape(t, New("v1", func() View { return View{} }))
	if !strings.Contains(text, "\ntekton_host_read 0\n") || strings.Contains(text, "tekton_objects") || strings.Contains(text, "tekton_slots") {
		t.Errorf("a host that was not read yet tells:\n%s", text)
	}
}

// names of what is told at all, with the suffixes of histograms.
func names(t *testing.T) map[string]bool {
	t.Helper()
	m := New("v1", sample)
	m.Look("network", 0)
	m.Step(resource.Step{Verb: resource.Put, Resource: resource.New("u1", "", "x", resource.Unit{})}, 0, errors.New("x"))
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, f := range families {
		told[f.GetName()] = true
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			told[f.GetName()+suffix] = f.GetMetric()[0].GetHistogram() != nil
		}
	}
	return told
}

var metricName = regexp.MustCompile(`\b(tekton|process|go)_[a-z_]+\b`)

// TestExamples: dashboards and alerts ask for metrics that exist.
func TestExamples(t *testing.T) {
	told := names(t)
	type rules struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []struct {
				Alert       string            `json:"alert"`
				Expr        string            `json:"expr"`
				Annotations map[string]string `json:"annotations"`
			} `json:"rules"`
		} `json:"groups"`
	}
	type dashboard struct {
		Title  string `json:"title"`
		Panels []struct {
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	check := func(where, expr string) {
		found := metricName.FindAllString(expr, -1)
		if len(found) == 0 {
			t.Errorf("%s asks for nothing of ours: %q", where, expr)
		}
		for _, name := range found {
			if !told[name] {
				t.Errorf("%s asks for %s, which nobody tells", where, name)
			}
		}
	}
	const alertsFile, dashboardFile = "../../examples/monitoring/alerts.yml", "../../examples/monitoring/dashboard.json"
	var r rules
	read(t, alertsFile, func(data []byte) error { return yaml.Unmarshal(data, &r) })
	alerts := 0
	for _, g := range r.Groups {
		for _, rule := range g.Rules {
			alerts++
			check(rule.Alert, rule.Expr)
			if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("alert %s does not say what to do", rule.Alert)
			}
		}
	}
	var d dashboard
	read(t, dashboardFile, func(data []byte) error { return json.Unmarshal(data, &d) })
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			check(p.Title, target.Expr)
		}
	}
	if alerts == 0 || len(d.Panels) == 0 {
		t.Fatalf("%d alerts and %d panels were read", alerts, len(d.Panels))
	}
	if promtool, err := exec.LookPath("promtool"); err == nil {
		if out, err := exec.Command(promtool, "check", "rules", alertsFile).CombinedOutput(); err != nil {
			t.Errorf("promtool: %v\n%s", err, out)
		}
	}
}

func read(t *testing.T, file string, into func([]byte) error) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := into(data); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
