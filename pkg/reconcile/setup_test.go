package reconcile

import (
	"encoding/json"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/spec"
)

// setupAnnotation holds a SetupSpec: here a container is lowered with what no
// document of one can say.
const setupAnnotation = "test/setup"

func lowerSetup(c *v1alpha1.Container) {
	if raw, ok := c.Metadata.Annotations[setupAnnotation]; ok {
		c.Spec.Setup = &v1alpha1.SetupSpec{}
		if err := json.Unmarshal([]byte(raw), c.Spec.Setup); err != nil {
			panic(err)
		}
	}
}

func decodeSetup(kind string, data []byte) (v1alpha1.Object, error) {
	o, err := spec.FromJSON(kind, data)
	if c, ok := o.(*v1alpha1.Container); ok && err == nil {
		lowerSetup(c)
	}
	return o, err
}

// setUp is a container that is set up for a revision.
func setUp(c v1alpha1.Container, revision string, edits ...func(*v1alpha1.SetupSpec)) v1alpha1.Container {
	s := v1alpha1.SetupSpec{
		Revision: revision, Command: []string{"migrate"},
		Files: []v1alpha1.SetupFile{{Path: "/etc/app.env", Environment: map[string]string{"REVISION": revision}}},
	}
	for _, edit := range edits {
		edit(&s)
	}
	raw, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	c.Metadata.Annotations = map[string]string{setupAnnotation: string(raw)}
	return c
}

// seeded works with the database, which it seeds.
func seeded(s *v1alpha1.SetupSpec) { s.Database, s.Seed = "main", "seed.service" }

func setupFails(revision, reason string) func(*sim) {
	return func(s *sim) { s.world.SetupFails[revision] = reason }
}

func (s *sim) setup(machine string) resource.Setup {
	v, _ := s.world.Things[resource.ID{Kind: resource.KindSetup, Name: machine}].Value.(resource.Setup)
	return v
}

func (s *sim) unit(machine string) resource.Unit {
	v, _ := s.world.Things[resource.ID{Kind: resource.KindUnit, Name: machine}].Value.(resource.Unit)
	return v
}

// TestSetUpBeforeReady: nothing is probed before the machine is set up, and a
// new revision keeps the machine and what serves.
func TestSetUpBeforeReady(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", setUp(web("a"), "r1"))
	s.building()
	s.wantPhase("a", v1alpha1.PhaseStarting)
	s.wantCondition("a", v1alpha1.ConditionReady, v1alpha1.ConditionFalse, "SettingUp")
	s.wantCondition("a", v1alpha1.ConditionAnswered, v1alpha1.ConditionFalse, "NotAnswered")
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	s.wantCondition("a", v1alpha1.ConditionSetUp, v1alpha1.ConditionTrue, "SetUp")
	s.quiet()
	boot := s.unit("a-1").Boot
	s.put("a.yaml", setUp(web("a"), "r2"))
	s.building()
	s.wantPhase("a", v1alpha1.PhaseDegraded)
	s.wantCondition("a", v1alpha1.ConditionReady, v1alpha1.ConditionTrue, "Ready")
	s.wantCondition("a", v1alpha1.ConditionSetUp, v1alpha1.ConditionFalse, "SettingUp")
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	if done := s.setup("a-1").Run.Done; done != "r2" || s.unit("a-1").Boot != boot || s.world.Starts["a-1"] != 1 {
		t.Errorf("set up for %q in %s, want r2 in %s, without a start", done, s.unit("a-1").Boot, boot)
	}
	s.quiet()
}

// TestFailedSetup of a later revision leaves what runs, says why, and is tried
// again later and later; of the first one nothing is Ready.
func TestFailedSetup(t *testing.T) {
	s := newSim(t)
	setupFails("bad", "SetupFailed")(s)
	s.put("a.yaml", setUp(web("a"), "bad"))
	s.building()
	s.world.EndSetups()
	s.pass()
	s.wantPhase("a", v1alpha1.PhaseFailed)
	c := s.wantCondition("a", v1alpha1.ConditionReady, v1alpha1.ConditionFalse, "SetupFailed")
	if wait := c.NextRetry.Sub(s.world.Now); wait <= 0 || wait > 10*time.Second {
		t.Errorf("tried again in %s", wait)
	}
	s.put("a.yaml", setUp(web("a"), "good"))
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	s.put("a.yaml", setUp(web("a"), "bad"))
	began, tries := s.world.Now, s.world.Setups["bad"]
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseDegraded)
	s.wantCondition("a", v1alpha1.ConditionReady, v1alpha1.ConditionTrue, "Ready")
	s.wantCondition("a", v1alpha1.ConditionSetUp, v1alpha1.ConditionFalse, "SetupFailed")
	if n := s.world.Setups["bad"] - tries; n < 4 || n > 10 {
		t.Errorf("%d attempts in %s", n, s.world.Now.Sub(began))
	}
	delete(s.world.SetupFails, "bad")
	s.world.Now = s.world.Now.Add(30 * time.Minute)
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	s.quiet()
}

// TestSetupSuperseded: the setup of a revision that nobody asks for any more ends for
// that of the next one, which is begun at once.
func TestSetupSuperseded(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", setUp(web("a"), "r1"))
	s.building()
	for _, revision := range []string{"r2", "r3"} {
		s.put("a.yaml", setUp(web("a"), revision))
		s.building()
		if have := s.setup("a-1"); have.Revision != revision || !have.Run.Running || have.Run.Done != "" {
			t.Fatalf("%s is set up, running %t, done %q; want %s", have.Revision, have.Run.Running, have.Run.Done, revision)
		}
	}
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	if done := s.setup("a-1").Run.Done; done != "r3" {
		t.Errorf("set up for %q", done)
	}
	s.quiet()
}

// TestSetupForced: a higher generation runs the same revision again.
func TestSetupForced(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", setUp(web("a"), "r1"))
	s.settle()
	s.put("a.yaml", setUp(web("a"), "r1", func(x *v1alpha1.SetupSpec) { x.Generation = 1 }))
	s.building()
	if v := s.setup("a-1"); !v.Run.Running || v.Generation != 1 {
		t.Errorf("not begun again: %+v", v)
	}
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
}

// TestFilesWaitForTheAttempt: a token that changes does not cut a setup short.
func TestFilesWaitForTheAttempt(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", setUp(web("a"), "r1"))
	s.building()
	started := s.setup("a-1").Run.StartedAt
	s.put("a.yaml", setUp(web("a"), "r1", func(x *v1alpha1.SetupSpec) { x.Files[0].Environment["MORE"] = "1" }))
	s.world.Now = s.world.Now.Add(time.Minute)
	s.building()
	if v := s.setup("a-1"); !v.Run.Running || !v.Run.StartedAt.Equal(started) {
		t.Errorf("the attempt was cut short: %+v", v.Run)
	}
	s.settle()
	if v := s.setup("a-1"); len(v.Files[0].Environment) != 2 || v.Run.Done != "r1" {
		t.Errorf("the changed file was not delivered: %+v", v)
	}
	s.wantPhase("a", v1alpha1.PhaseReady)
}

// TestSetupOfReplacement: the new instance is set up before it is probed, and is
// taken back when that fails; another revision is then tried again.
func TestSetupOfReplacement(t *testing.T) {
	for _, reason := range []string{"SetupFailed", resource.ReasonSetupTimeout} {
		t.Run(reason, func(t *testing.T) {
			s := newSim(t)
			setupFails("bad", reason)(s)
			s.put("a.yaml", setUp(web("a"), "r1"))
			s.settle()
			s.put("a.yaml", setUp(command(web("a"), "2"), "bad"))
			s.settle()
			s.wantPhase("a", v1alpha1.PhaseDegraded)
			s.wantCondition("a", v1alpha1.ConditionRolledBack, v1alpha1.ConditionTrue, reason)
			if s.unit("a-1").Running == false || s.unit("a-2").Running || s.setup("a-1").Run.Done != "r1" {
				t.Error("the former machine does not serve as it was")
			}
			s.put("a.yaml", setUp(command(web("a"), "2"), "r3"))
			s.settle()
			s.wantPhase("a", v1alpha1.PhaseReady)
			if s.unit("a-1").Running || s.world.Things[resource.ID{Kind: resource.KindSetup, Name: "a-1"}].Name != "" {
				t.Error("the former machine, or what it was set up for, is left")
			}
			s.quiet()
		})
	}
}

// TestServicesComeBack: a machine that starts again gets its services without
// another setup, also while a later revision cannot be set up.
func TestServicesComeBack(t *testing.T) {
	for name, how := range map[string]func(*sim){
		"machine": func(s *sim) { s.world.Kill("a-1", 1) },
		"host":    func(s *sim) { s.reboot(s.world.Reboot) },
		"power":   func(s *sim) { s.reboot(s.world.PowerCut) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			setupFails("bad", "SetupFailed")(s)
			s.put("a.yaml", setUp(web("a"), "r1"))
			s.settle()
			how(s)
			s.settle()
			s.wantPhase("a", v1alpha1.PhaseReady)
			if n := s.world.Setups["r1"]; n != 1 {
				t.Errorf("set up %d times for one revision", n)
			}
			s.put("a.yaml", setUp(web("a"), "bad"))
			s.settle()
			how(s)
			s.settle()
			s.wantPhase("a", v1alpha1.PhaseDegraded)
			s.wantCondition("a", v1alpha1.ConditionReady, v1alpha1.ConditionTrue, "Ready")
		})
	}
}

// TestSetupIsForgottenWithItsObject, also while it runs.
func TestSetupIsForgottenWithItsObject(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", setUp(web("a"), "r1"))
	s.building()
	s.delete("a.yaml")
	s.building()
	for id := range s.world.Things {
		if id.Kind == resource.KindSetup || id.Kind == resource.KindInstance {
			t.Errorf("%s is left", id)
		}
	}
}
