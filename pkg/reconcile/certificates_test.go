package reconcile

import (
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

// TestCertificates: how the certificates of an object's hosts stand is in its
// status, and what is missing or over keeps it from being Ready.
func TestCertificates(t *testing.T) {
	s := newSim(t)
	app := web("web")
	app.Spec.Routes = []v1alpha1.Route{{Host: "web.test", Path: "/", Port: 8080, TLS: string(resource.TLSACME)}}
	s.put("web.yaml", app)
	s.settle()
	id := resource.ID{Kind: resource.KindRoute, Name: resource.RouteName("web.test", "/", false)}
	served := func(c resource.Served) {
		t.Helper()
		r, there := s.world.Things[id]
		if !there {
			t.Fatalf("%s is not served", id)
		}
		v := r.Value.(resource.Route)
		v.Certificate = c
		r.Value = v
		s.world.Things[id] = r
		s.pass()
	}
	now := s.world.Now
	for _, c := range []struct {
		served resource.Served
		status v1alpha1.ConditionStatus
		reason string
		says   string
	}{
		{resource.Served{Missing: true}, v1alpha1.ConditionFalse, "CertificatePending", "web.test"},
		{resource.Served{Missing: true, Message: "no such name"}, v1alpha1.ConditionFalse, "CertificateRefused", "no such name"},
		{resource.Served{NotAfter: now.Add(60 * 24 * time.Hour)}, v1alpha1.ConditionTrue, "AsDesired", ""},
		{resource.Served{NotAfter: now.Add(36 * time.Hour)}, v1alpha1.ConditionTrue, "CertificateExpires", "within 2 days"},
		{resource.Served{NotAfter: now.Add(-time.Hour)}, v1alpha1.ConditionFalse, "CertificateExpired", "web.test"},
		{resource.Served{}, v1alpha1.ConditionTrue, "AsDesired", ""},
	} {
		served(c.served)
		if got := s.wantCondition("web", v1alpha1.ConditionRouteReady, c.status, c.reason); !strings.Contains(got.Message, c.says) {
			t.Errorf("%s says %q, want %q in it", c.reason, got.Message, c.says)
		}
		item := s.last.Items[0]
		if told := len(item.Status.Certificates) > 0; told != (c.served != resource.Served{}) {
			t.Errorf("%+v: status tells %+v", c.served, item.Status.Certificates)
		}
		if ready := item.Status.Phase == v1alpha1.PhaseReady; ready != (c.status == v1alpha1.ConditionTrue) {
			t.Errorf("%s: phase %s", c.reason, item.Status.Phase)
		}
	}
}
