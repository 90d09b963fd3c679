package reconcile

import (
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/spec"
)

// write puts any object into a file of its own, as a source reads it.
func (s *sim) write(file string, o v1alpha1.Object) {
	o.(interface{ Default(*v1alpha1.HostSpec) }).Default(&s.conf.Host)
	s.files[file] = specFile{docs: []spec.Object{{Object: o, Position: spec.Position{File: file, Line: 1, Column: 1}, Digest: spec.Digest(o)}}}
}

// describes has the operator describe a repository.
func describes(edit func(*v1alpha1.RepositorySpec)) func(*sim) {
	return func(s *sim) {
		r := &v1alpha1.Repository{Metadata: v1alpha1.ObjectMeta{Name: "app"}, Spec: v1alpha1.RepositorySpec{URL: forge}}
		if edit != nil {
			edit(&r.Spec)
		}
		s.write("repository.yaml", r)
	}
}

// shows has somebody else write a preview of the repository that the operator describes.
func shows(name string, edit func(*v1alpha1.PreviewSpec)) func(*sim) {
	return func(s *sim) {
		p := &v1alpha1.Preview{
			Metadata: v1alpha1.ObjectMeta{Name: name},
			Spec:     v1alpha1.PreviewSpec{Repository: v1alpha1.PreviewRepository{Name: "app"}, PullRequest: 7, Host: name + ".preview.test", Refresh: &v1alpha1.Duration{Duration: time.Hour}},
		}
		if edit != nil {
			edit(&p.Spec)
		}
		s.write(name+".yaml", p)
	}
}

// granting is a repository whose previews get a secret, and a variable of a value.
func granting(value string) func(*v1alpha1.RepositorySpec) {
	return func(r *v1alpha1.RepositorySpec) {
		r.Preview.Grants = v1alpha1.PreviewGrants{Secrets: []v1alpha1.PreviewSecret{{Name: "KEY", Secret: "key"}}, Variables: map[string]string{"MODE": value}}
	}
}

const wantsKey = application + "secrets: [KEY]\n"

func retaining(r *v1alpha1.RepositorySpec) { r.Preview.Database.DeletionPolicy = "Retain" }

func undescribed(s *sim) { s.delete("repository.yaml") }

// serving has the repository be at a commit that is a whole application.
func serving(commit string) func(*sim) { return func(s *sim) { s.pushes(commit, application) } }

// environment is what the setup of a machine was given.
func (s *sim) environment(machine string) string {
	var b strings.Builder
	for _, f := range s.setup(machine).Files {
		b.WriteString(strings.Join(f.Environment, "\n") + "\n")
	}
	return b.String()
}

// TestPreviewOfRepository: a preview has what its Repository says and follows it,
// hot where it can; without the Repository what runs stays as it is.
func TestPreviewOfRepository(t *testing.T) {
	s := newSim(t)
	s.secrets["key"] = "canary-1"
	s.pushes("c1", wantsKey)
	shows("a", nil)(s)
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseRejected)
	s.wantCondition("a", v1alpha1.ConditionReady, v1alpha1.ConditionFalse, "RepositoryMissing")
	if len(s.world.Things) > 0 {
		t.Errorf("made for a preview without its Repository: %v", s.world.Things)
	}

	describes(granting("one"))(s)
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	s.wantPhase("app", v1alpha1.PhaseReady)
	if got := s.environment("a-1"); !strings.Contains(got, "MODE=one") {
		t.Errorf("it has %s", got)
	}
	if r := s.item("app").Status.Repository; r == nil || r.Previews != 1 || len(s.item("app").Status.Conditions) != 2 {
		t.Errorf("the Repository's status: %+v", s.item("app").Status)
	}
	s.quiet()

	describes(func(r *v1alpha1.RepositorySpec) {
		granting("one")(r)
		r.Preview.Egress.Mode, r.Preview.Database.DeletionPolicy, r.PullRequests.Max = "none", "Retain", 3
	})(s)
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	if p := s.item("a").Spec.(*v1alpha1.PreviewSpec); p.Egress.Mode != "none" || s.world.Starts["a-1"] != 1 || s.item("app").Status.Repository.Max != 3 {
		t.Errorf("egress %q after %d starts", p.Egress.Mode, s.world.Starts["a-1"])
	}

	describes(func(r *v1alpha1.RepositorySpec) {
		granting("two")(r)
		r.Preview.Database.DeletionPolicy = "Retain"
	})(s)
	s.settle()
	if got := s.environment("a-1"); !strings.Contains(got, "MODE=two") {
		t.Errorf("after a change of the Repository it has %s", got)
	}

	s.delete("repository.yaml")
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseDegraded)
	s.wantCondition("a", v1alpha1.ConditionReady, v1alpha1.ConditionTrue, "Ready")
	if c := s.wantCondition("a", v1alpha1.ConditionSpecValid, v1alpha1.ConditionFalse, "RepositoryMissing"); !strings.Contains(c.Message, "a.yaml:1") || !strings.Contains(c.Message, "no Repository app") {
		t.Errorf("it says %+v", c)
	}
	s.serves("a")
	s.quiet()

	// Its data goes by the policy that it was given last.
	s.delete("a.yaml")
	s.settle()
	if s.count(resource.KindUnit) > 0 || s.count(resource.KindDatabase) != 1 {
		t.Errorf("%d units and %d databases are left; its policy was Retain", s.count(resource.KindUnit), s.count(resource.KindDatabase))
	}
}

// TestPreviewsOfARefusedRepository: what a Repository's source may not have any
// more, its previews do not keep; their data stays, and they come back with it.
func TestPreviewsOfARefusedRepository(t *testing.T) {
	wide := &v1alpha1.Admission{Repositories: []string{"*"}, Domains: []string{"*.preview.test"}, Secrets: []string{"key"}}
	narrow := *wide
	narrow.Secrets = nil
	s := newSim(t)
	s.secrets["key"] = "canary-1"
	s.pushes("c1", wantsKey)
	s.narrow(wide)
	describes(granting("one"))(s)
	shows("a", nil)(s)
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)

	s.narrow(&narrow)
	s.settle()
	for _, name := range []string{"app", "a"} {
		s.wantPhase(name, v1alpha1.PhaseRejected)
		s.wantCondition(name, v1alpha1.ConditionReady, v1alpha1.ConditionFalse, "SourcePolicy")
	}
	if s.runs("a") || s.count(resource.KindDatabase) != 1 {
		t.Errorf("it runs: %v, %d databases", s.runs("a"), s.count(resource.KindDatabase))
	}
	s.quiet()

	shows("b", nil)(s)
	s.settle()
	s.wantPhase("b", v1alpha1.PhaseRejected)

	s.narrow(wide)
	s.settle()
	for _, name := range []string{"app", "a", "b"} {
		s.wantPhase(name, v1alpha1.PhaseReady)
	}
}

// TestUnreadPreviewFollows: a grant that is taken back is taken from a preview
// whose own document cannot be read just now, too.
func TestUnreadPreviewFollows(t *testing.T) {
	s := newSim(t)
	s.secrets["key"] = "canary-1"
	s.pushes("c1", wantsKey)
	describes(granting("one"))(s)
	shows("a", nil)(s)
	s.settle()
	generation := s.item("a").Metadata.Generation
	torn := s.files["a.yaml"]
	torn.tear = garbage
	s.files["a.yaml"] = torn
	describes(func(r *v1alpha1.RepositorySpec) {
		granting("two")(r)
		r.Preview.Egress.Mode = "none"
	})(s)
	s.settle()
	s.wantCondition("a", v1alpha1.ConditionSpecValid, v1alpha1.ConditionFalse, "ParseError")
	if got := s.environment("a-1"); !strings.Contains(got, "MODE=two") || s.item("a").Metadata.Generation != generation+1 {
		t.Errorf("in generation %d it has %s", s.item("a").Metadata.Generation, got)
	}
	s.quiet()
	torn.tear = whole
	s.files["a.yaml"] = torn
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	if got := s.item("a").Metadata.Generation; got != generation+1 {
		t.Errorf("read again, it is generation %d", got)
	}
}

// TestPreviewOfFork: what the Repository grants is not for a fork's commit.
func TestPreviewOfFork(t *testing.T) {
	s := newSim(t)
	s.secrets["key"] = "canary-1"
	s.pushes("c1", application)
	describes(granting("one"))(s)
	shows("a", func(p *v1alpha1.PreviewSpec) { p.Fork = true })(s)
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	if got := s.environment("a-1"); strings.Contains(got, "MODE=") || strings.Contains(got, "KEY") {
		t.Errorf("a fork has %s", got)
	}
	s.pushes("c2", wantsKey)
	s.looked()
	s.wantCondition("a", v1alpha1.ConditionConfigured, v1alpha1.ConditionFalse, "ConfigInvalid")
	describes(func(r *v1alpha1.RepositorySpec) { r.Preview.Config = "preview.nix" })(s)
	s.settle()
	s.wantCondition("a", v1alpha1.ConditionSpecValid, v1alpha1.ConditionFalse, "InvalidValue")
	s.serves("a")
}

// TestTTLOfRepository: the end that a Repository gives comes for its previews.
func TestTTLOfRepository(t *testing.T) {
	s := newSim(t)
	s.pushes("c1", application)
	describes(func(r *v1alpha1.RepositorySpec) { r.Preview.TTL = &v1alpha1.Duration{Duration: 2 * time.Hour} })(s)
	shows("a", nil)(s)
	s.settle()
	s.sleep(time.Hour)
	if at := s.item("a").Status.ExpiresAt; at.IsZero() {
		t.Error("it has no end")
	}
	s.sleep(2 * time.Hour)
	s.wantPhase("a", v1alpha1.PhaseExpired)
	describes(nil)(s)
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
}

// TestNamesOfRepositories: a Repository takes its name from no machine, and no
// machine takes it from the Repository.
func TestNamesOfRepositories(t *testing.T) {
	for _, first := range []string{"Repository", "Container"} {
		t.Run(first+" first", func(t *testing.T) {
			s := newSim(t)
			before := s.world.Snapshot()
			if first == "Container" {
				s.put("app.yaml", web("app"))
				s.settle()
			}
			describes(nil)(s)
			s.settle()
			if first == "Repository" && len(s.world.Things) > 0 {
				t.Errorf("a Repository alone needs of the host: %v", s.world.Things)
			}
			s.put("app.yaml", web("app"))
			s.settle()
			for _, i := range s.last.Items {
				if i.Status.Phase != v1alpha1.PhaseReady {
					t.Errorf("%s is %s: %+v", i.Kind, i.Status.Phase, i.Status.Conditions)
				}
			}
			if len(s.last.Items) != 2 || !s.runs("app") {
				t.Errorf("items %+v", s.last.Items)
			}
			s.delete("repository.yaml")
			s.settle()
			if len(s.last.Items) != 1 || !s.runs("app") || s.world.Starts["app-1"] != 1 {
				t.Errorf("without the Repository: %+v", s.last.Items)
			}
			s.delete("app.yaml")
			s.pause()
			if after := s.world.Snapshot(); after != before {
				t.Errorf("left: %s", after)
			}
		})
	}
}

// TestRepositoryTwice: of two documents of a name one has it, as for every kind.
func TestRepositoryTwice(t *testing.T) {
	s := newSim(t)
	describes(nil)(s)
	s.settle()
	other := s.files["repository.yaml"]
	other.docs = []spec.Object{other.docs[0]}
	other.docs[0].Position.File = "a.yaml"
	s.files["a.yaml"] = other
	s.settle()
	if len(s.last.Items) != 1 || len(s.last.Problems) != 1 || s.last.Problems[0].Reason != spec.ReasonDuplicateName || s.last.Problems[0].File != "a.yaml" {
		t.Errorf("%+v, problems %+v", s.last.Items, s.last.Problems)
	}
}

// TestRemovedRepositoryWithoutServices: nothing of it is on the host, so nothing
// that cannot be looked at delays it.
func TestRemovedRepositoryWithoutServices(t *testing.T) {
	s := newSim(t)
	describes(nil)(s)
	s.settle()
	s.world.Unknown[resource.KindDatabase], s.world.Unknown[resource.KindRole] = errUnknown, errUnknown
	s.delete("repository.yaml")
	s.settle()
	if len(s.last.Items) > 0 || len(s.world.Claims) > 0 {
		t.Errorf("left: %+v %v", s.last.Items, s.world.Claims)
	}
}
