package reconcile

import (
	"encoding/json"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/resource"
)

func sleepy(c v1alpha1.Container) v1alpha1.Container {
	c.Spec.SleepAfter = &v1alpha1.Duration{Duration: time.Hour}
	return c
}

// idle lets an object fall asleep, if the activator would just now.
func idle(name string) func(*sim) { return func(s *sim) { s.world.Idle(name) } }

// request asks for an object through the activator.
func request(name string) func(*sim) { return func(s *sim) { s.world.Request(name) } }

// TestSleep: what nobody asks for is stopped and all else of it stays; it is no
// failure, at no moment; the next request starts it and is served.
func TestSleep(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", sleepy(withData(web("a"), "Delete")))
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	if !s.world.Request("a") {
		t.Fatal("a request is not served")
	}
	machine, made := s.item("a").Status.Machine, len(s.world.Made)
	s.world.Idle("a")
	for s.tick() {
		if i := s.item("a"); i.Status.Phase != v1alpha1.PhaseAsleep || s.ready("a") != v1alpha1.ConditionTrue {
			t.Fatalf("on its way to sleep it is %s, Ready %s", i.Status.Phase, s.ready("a"))
		}
	}
	s.quiet()
	if s.runs("a") || s.item("a").Status.AsleepSince.IsZero() || s.item("a").Status.Phase != v1alpha1.PhaseAsleep {
		t.Errorf("it runs %v, asleep since %s, %s", s.runs("a"), s.item("a").Status.AsleepSince, s.item("a").Status.Phase)
	}
	for _, id := range []resource.ID{
		{Kind: resource.KindVolume, Name: resource.VolumeName("Container", "a", "data")},
		{Kind: resource.KindDatabase, Name: s.conf.Naming.DatabaseName("Container", "a", "main")},
		{Kind: resource.KindRoute, Name: "a.example.org/"}, {Kind: resource.KindInstance, Name: machine},
	} {
		if _, there := s.world.Things[id]; !there {
			t.Errorf("%s went with its sleep", id)
		}
	}
	s.restart() // nor does a new daemon wake it
	s.reboot(s.world.Reboot)
	s.settle()
	if s.runs("a") {
		t.Fatal("a restart has woken it")
	}
	if s.world.Request("a") {
		t.Fatal("a request is served by a machine that is not there")
	}
	s.restart() // a wake is not lost
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	if !s.world.Request("a") || s.item("a").Status.Machine != machine || len(s.world.Made) != made {
		t.Errorf("it serves %v from %s, was %s; data made %d times, was %d", s.world.Request("a"), s.item("a").Status.Machine, machine, len(s.world.Made), made)
	}
}

// ready is the status of the condition.
func (s *sim) ready(name string) v1alpha1.ConditionStatus {
	for _, c := range s.item(name).Status.Conditions {
		if c.Type == v1alpha1.ConditionReady {
			return c.Status
		}
	}
	return ""
}

// TestNothingElseWakes: neither a changed spec nor a new revision; what changed
// is there when it wakes. A restart that somebody asks for wakes.
func TestNothingElseWakes(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", sleepy(setUp(web("a"), "r1")))
	s.settle()
	s.world.Idle("a")
	s.settle()
	for _, change := range []v1alpha1.Container{sleepy(setUp(web("a"), "r2")), sleepy(setUp(command(web("a"), "2"), "r2")), sleepy(routed(setUp(command(web("a"), "2"), "r2"), "b.example.org"))} {
		s.put("a.yaml", change)
		s.settle()
		if s.wantPhase("a", v1alpha1.PhaseAsleep); s.runs("a") {
			t.Fatal("a change has woken it")
		}
		s.quiet()
	}
	s.world.Request("a")
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	if got := s.item("a").Status.Setup.Done; got != "r2" || !s.world.Request("a") {
		t.Errorf("it is set up for %s", got)
	}
	s.world.Idle("a")
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseAsleep)
	s.askRestart("a")
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
}

// askRestart is `tekton restart`.
func (s *sim) askRestart(name string) {
	s.t.Helper()
	c := s.world.Claims[compile.ObjectKey(v1alpha1.KindContainer, name)]
	var r compile.ObjectRecord
	if err := json.Unmarshal(c.Value, &r); err != nil {
		s.t.Fatalf("record of %s: %v", name, err)
	}
	r.Restart++
	c.Value, _ = json.Marshal(r) // a plain struct
	c.Revision++
	s.world.Claims[c.Key] = c
}

// TestSleepStays: what cannot be seen neither stops nor wakes.
func TestSleepStays(t *testing.T) {
	for name, asleep := range map[string]bool{"asleep": true, "awake": false} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			s.put("a.yaml", sleepy(web("a")))
			s.settle()
			if asleep {
				s.world.Idle("a")
				s.settle()
			}
			starts := s.world.Starts[s.item("a").Status.Machine]
			s.world.Unknown[resource.KindGate] = errUnknown
			s.settle()
			if s.runs("a") == asleep || s.world.Starts[s.item("a").Status.Machine] != starts {
				t.Errorf("it runs: %v", s.runs("a"))
			}
			delete(s.world.Unknown, resource.KindGate)
			s.settle()
			if s.runs("a") == asleep {
				t.Errorf("seen again, it runs: %v", s.runs("a"))
			}
		})
	}
}

// TestSleepWaitsForWork: while an update or a setup is under way nothing falls asleep.
func TestSleepWaitsForWork(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", sleepy(setUp(web("a"), "r1")))
	s.settle()
	s.endless = true
	s.put("a.yaml", sleepy(setUp(web("a"), "r2")))
	s.settle()
	if s.world.Idle("a") {
		t.Error("it falls asleep while it is set up")
	}
	s.endless = false
	s.settle()
	if !s.world.Idle("a") {
		t.Error("it never falls asleep")
	}
}

// TestAsleepWithoutAnswer: a power cut may take the answer back of what sleeps,
// and with it the route: nobody could wake it any more. It is started once.
func TestAsleepWithoutAnswer(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", sleepy(web("a")))
	s.settle()
	s.world.Idle("a")
	s.settle()
	delete(s.world.Things, resource.ID{Kind: resource.KindAnswer, Name: s.item("a").Status.Machine})
	s.reboot(s.world.Reboot)
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	if !s.world.Request("a") {
		t.Error("a request is not served")
	}
	s.world.Idle("a")
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseAsleep)
}
