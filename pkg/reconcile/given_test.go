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
