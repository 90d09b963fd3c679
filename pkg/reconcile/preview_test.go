package reconcile

import (
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/spec"
)

const application = "services: [{name: web, command: [serve]}]\nroutes: [{port: 3000}]\ndatabase: {env: DATABASE_URL}\n"

// preview shows a branch.
func (s *sim) preview(branch string, edits ...func(*v1alpha1.PreviewSpec)) {
	p := &v1alpha1.Preview{
		Metadata: v1alpha1.ObjectMeta{Name: "shop"},
		Spec:     v1alpha1.PreviewSpec{Repository: v1alpha1.PreviewRepository{URL: forge}, Branch: branch, Host: "shop.preview.test", Refresh: &v1alpha1.Duration{Duration: time.Hour}},
	}
	for _, edit := range edits {
		edit(&p.Spec)
	}
	p.Default(&s.conf.Host)
	s.files["shop.yaml"] = specFile{docs: []spec.Object{{Object: p, Position: spec.Position{File: "shop.yaml", Line: 1}, Digest: spec.Digest(p)}}}
}

// pushes has the branch be at a commit whose preview.yaml is config.
func (s *sim) pushes(commit, config string) {
	s.world.Repositories[forge] = commit
	s.world.Texts[commit] = config
}

// looked lets so much time pass that the repository is looked at again.
func (s *sim) looked() {
	s.world.Now = s.world.Now.Add(time.Hour)
	s.settle()
}

// TestPreview: a commit is fetched, set up and served; later ones keep the
// machine; what is wrong with one leaves what serves, and says why.
func TestPreview(t *testing.T) {
	s := newSim(t)
	s.pushes("c1", application)
	s.preview("main")
	s.building()
	s.wantPhase("shop", v1alpha1.PhaseFetching)
	s.settle()
	s.wantPhase("shop", v1alpha1.PhaseReady)
	if got := s.setup("shop-1").Run.Done; got != "c1" {
		t.Errorf("set up for %q", got)
	}
	s.quiet()

	s.pushes("c2", application)
	s.looked()
	s.wantPhase("shop", v1alpha1.PhaseReady)
	if got := s.setup("shop-1").Run.Done; got != "c2" || s.world.Starts["shop-1"] != 1 {
		t.Errorf("set up for %q after %d starts", got, s.world.Starts["shop-1"])
	}

	s.pushes("c3", "service: []\n")
	s.looked()
	s.wantPhase("shop", v1alpha1.PhaseDegraded)
	s.wantCondition("shop", v1alpha1.ConditionConfigured, v1alpha1.ConditionFalse, "ConfigInvalid")
	s.serves("shop")

	setupFails("c4", "SetupFailed")(s)
	s.pushes("c4", application)
	s.looked()
	s.wantPhase("shop", v1alpha1.PhaseDegraded)
	s.wantCondition("shop", v1alpha1.ConditionSetUp, v1alpha1.ConditionFalse, "SetupFailed")
	s.serves("shop")

	s.world.Repositories[forge] = "" // the branch is gone
	s.looked()
	s.wantCondition("shop", v1alpha1.ConditionFetched, v1alpha1.ConditionTrue, "RefNotFound")
	s.serves("shop")

	s.delete("shop.yaml")
	s.settle()
	for id := range s.world.Things {
		if id.Kind == resource.KindCheckout || id.Kind == resource.KindSetup || id.Kind == resource.KindUnit || id.Kind == resource.KindDatabase || id.Kind == resource.KindVolume {
			t.Errorf("%s is left", id)
		}
	}
}

func (s *sim) serves(name string) {
	s.t.Helper()
	if s.count(resource.KindRoute) != 1 || !s.unit(name+"-1").Running {
		s.t.Errorf("%s is not served", name)
	}
}

// TestPreviewOfTemplate: without its template a preview has no database and no
// machine, and says so; it comes to be when the template does.
func TestPreviewOfTemplate(t *testing.T) {
	s := newSim(t)
	s.pushes("c1", application)
	s.preview("main", func(p *v1alpha1.PreviewSpec) { p.Database.Template = "golden" })
	s.settle()
	s.wantPhase("shop", v1alpha1.PhaseFailed)
	s.wantCondition("shop", v1alpha1.ConditionReady, v1alpha1.ConditionFalse, "TemplateMissing")
	if s.count(resource.KindDatabase) != 0 || s.count(resource.KindUnit) != 0 {
		t.Error("there is a database or a machine without the template")
	}
	s.world.Templates["golden"] = true
	s.world.Now = s.world.Now.Add(time.Hour)
	s.settle()
	s.wantPhase("shop", v1alpha1.PhaseReady)
	s.quiet()
	// It was needed once.
	s.world.Templates["golden"] = false
	s.pushes("c2", application)
	s.looked()
	s.wantPhase("shop", v1alpha1.PhaseReady)
}
