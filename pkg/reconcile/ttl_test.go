package reconcile

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

func lasting(c v1alpha1.Container, ttl time.Duration) v1alpha1.Container {
	c.Spec.TTL = &v1alpha1.Duration{Duration: ttl}
	return c
}

// rest lands all steps that can be taken now.
func (s *sim) rest() {
	s.t.Helper()
	for s.tick() {
	}
}

// sleep lets time pass, with all timers on the way.
func (s *sim) sleep(d time.Duration) {
	s.t.Helper()
	for end := s.world.Now.Add(d); s.world.Now.Before(end); {
		s.rest()
		next := end
		if wake := s.last.NextWake; !wake.IsZero() && wake.Before(end) {
			next = wake.Add(time.Millisecond)
		}
		if next.After(s.world.Now) {
			s.world.Now = next
		}
	}
	s.rest()
}

func (s *sim) expiring(name string) bool {
	for _, c := range s.item(name).Status.Conditions {
		if c.Type == v1alpha1.ConditionExpiring {
			return c.Status == v1alpha1.ConditionTrue
		}
	}
	return false
}

// TestTTL: a warning a tenth of the time before the end, at the end a stop; data
// stays until the spec goes, and more time starts the machine again.
func TestTTL(t *testing.T) {
	s := newSim(t)
	created := s.world.Now
	s.put("a.yaml", lasting(withData(web("a"), "Delete"), 10*time.Hour))
	s.sleep(time.Hour)
	s.quiet()
	s.sleep(created.Add(8*time.Hour + 59*time.Minute).Sub(s.world.Now))
	s.wantPhase("a", v1alpha1.PhaseReady)
	if at := s.item("a").Status.ExpiresAt; s.expiring("a") || at.Sub(created) < 10*time.Hour || at.Sub(created) > 10*time.Hour+time.Second {
		t.Errorf("it is to expire at %s, of which it is warned: %v", at, s.expiring("a"))
	}
	s.sleep(2 * time.Minute)
	s.wantPhase("a", v1alpha1.PhaseReady)
	if !s.expiring("a") {
		t.Error("there is no warning")
	}
	s.restart()
	s.sleep(58 * time.Minute)
	if s.wantPhase("a", v1alpha1.PhaseReady); !s.expiring("a") || !s.runs("a") {
		t.Error("it is stopped before its time")
	}
	s.sleep(2 * time.Minute)
	if s.wantPhase("a", v1alpha1.PhaseExpired); s.runs("a") {
		t.Error("it runs on")
	}
	s.quiet()
	volume := resource.ID{Kind: resource.KindVolume, Name: resource.VolumeName("Container", "a", "data")}
	if s.world.Things[volume].Owner != s.item("a").Metadata.UID {
		t.Error("its volume went before its spec")
	}

	s.put("a.yaml", lasting(withData(web("a"), "Delete"), 20*time.Hour))
	s.sleep(time.Minute)
	if s.wantPhase("a", v1alpha1.PhaseReady); s.expiring("a") || !s.runs("a") {
		t.Error("more time does not count")
	}
	s.put("a.yaml", lasting(withData(web("a"), "Delete"), 0))
	s.sleep(100 * time.Hour)
	if s.wantPhase("a", v1alpha1.PhaseReady); !s.item("a").Status.ExpiresAt.IsZero() {
		t.Error("0s does not let it stay")
	}
	s.put("a.yaml", lasting(withData(web("a"), "Delete"), 10*time.Hour))
	s.sleep(30 * time.Minute)
	if s.wantPhase("a", v1alpha1.PhaseReady); !s.expiring("a") {
		t.Error("it has no warning of its own where its time is over already")
	}
	s.sleep(time.Hour)
	s.wantPhase("a", v1alpha1.PhaseExpired)
	s.delete("a.yaml")
	s.settle()
	if _, there := s.world.Things[volume]; there || len(s.last.Items) > 0 {
		t.Errorf("something is left: %+v", s.last.Items)
	}
}

// TestShortTTL: also a short one is warned of.
func TestShortTTL(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", lasting(web("a"), time.Minute))
	s.sleep(35 * time.Second)
	if s.wantPhase("a", v1alpha1.PhaseReady); !s.expiring("a") {
		t.Error("there is no warning")
	}
	s.sleep(30 * time.Second)
	s.wantPhase("a", v1alpha1.PhaseExpired)
}

// TestPausedDoesNotExpire: nothing of a paused object changes.
func TestPausedDoesNotExpire(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", lasting(web("a"), time.Hour))
	s.sleep(time.Minute)
	paused := lasting(web("a"), time.Hour)
	paused.Spec.Paused = true
	s.put("a.yaml", paused)
	s.sleep(3 * time.Hour)
	if s.wantPhase("a", v1alpha1.PhasePaused); !s.runs("a") {
		t.Error("it was stopped")
	}
}

// TestTornSpecDoesNotExpire: what is just being written may be more time.
func TestTornSpecDoesNotExpire(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", lasting(web("a"), time.Hour))
	s.sleep(time.Minute)
	f := s.files["a.yaml"]
	f.tear = garbage
	s.files["a.yaml"] = f
	s.sleep(3 * time.Hour)
	if !s.expiring("a") || !s.runs("a") {
		t.Errorf("warned %v, runs %v", s.expiring("a"), s.runs("a"))
	}
	f.tear = whole
	s.files["a.yaml"] = f
	s.sleep(time.Minute)
	s.wantPhase("a", v1alpha1.PhaseExpired)
}

// TestTTLOverClockJumps: the clock is set by an hour or two, back and forth,
// and the daemon is killed at times. An object never goes without a warning that
// had its whole time, unless the clock was set forth since then; it never goes
// earlier than by what the clock was set forth, nor stays longer than by what it
// was set back and the time of a warning.
func TestTTLOverClockJumps(t *testing.T) {
	const ttl, ahead = 10 * time.Hour, time.Hour
	rapid.Check(t, func(rt *rapid.T) {
		s := newSim(rt)
		s.put("a.yaml", lasting(web("a"), ttl))
		s.rest()
		var real, forth, back, warned time.Duration // warned: by the clock, since the warning
		isWarned := false
		look := func(passed time.Duration) {
			if now := s.expiring("a"); !now || !isWarned {
				isWarned, warned = now, 0
				return
			}
			warned += passed
		}
		for range 30 {
			switch rapid.SampledFrom([]string{"sleep", "sleep", "jump", "restart"}).Draw(rt, "what") {
			case "sleep":
				d := time.Duration(rapid.IntRange(1, 7200).Draw(rt, "seconds")) * time.Second
				for left := d; left > 0; left -= 5 * time.Minute { // looked at often, to see warnings come
					step := min(left, 5*time.Minute)
					s.sleep(step)
					real += step
					look(step)
					if s.item("a").Status.Phase == v1alpha1.PhaseExpired {
						break
					}
				}
			case "jump":
				d := time.Duration(rapid.IntRange(-7200, 7200).Draw(rt, "by")) * time.Second
				s.world.Now = s.world.Now.Add(d)
				forth, back = forth+max(d, 0), back+max(-d, 0)
				s.rest()
				look(max(d, 0))
			case "restart":
				s.restart()
				s.rest()
			}
			const slack = 6 * time.Minute
			switch expired := s.item("a").Status.Phase == v1alpha1.PhaseExpired; {
			case expired && (!isWarned || warned < ahead-slack):
				rt.Fatalf("it expired %s after its warning (%v)", warned, isWarned)
			case expired && real < ttl-forth-slack:
				rt.Fatalf("it expired after %s, the clock was set forth by %s", real, forth)
			case !expired && real > ttl+back+ahead+slack:
				rt.Fatalf("it lives after %s, the clock was set back by %s", real, back)
			case expired:
				return
			}
		}
	})
}
