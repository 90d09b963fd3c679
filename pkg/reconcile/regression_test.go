package reconcile

import (
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/simworld"
	"tekton.host/pkg/resource"
)

// TestRegressions are the histories that failed once, by name.
func TestRegressions(t *testing.T) {
	answers := func(err error) func(*sim) {
		return func(s *sim) {
			if s.world.Unknown[resource.KindAnswer] = err; err == nil {
				delete(s.world.Unknown, resource.KindAnswer)
			}
		}
	}
	machine := func(s *sim, name string) resource.Unit {
		u, _ := s.world.Things[resource.ID{Kind: resource.KindUnit, Name: name}].Value.(resource.Unit)
		return u
	}
	for _, tt := range []struct {
		name    string
		changes []func(*sim)
		want    func(t *testing.T, s *sim)
	}{
		{"a power cut brings back the route of a deleted object", []func(*sim){
			put(web("a")), func(s *sim) {
				s.world.Now = s.world.Now.Add(time.Minute) // what is there is on the disk
				s.delete("a.yaml")
				for s.pass(); len(s.last.Items) > 0; {
					if !s.tick() {
						s.wait()
					}
				}
				s.reboot(s.world.PowerCut)
			},
		}, func(t *testing.T, s *sim) {
			for id := range s.world.Things {
				if id.Kind == resource.KindRoute {
					t.Errorf("%s is left", id)
				}
			}
		}},
		{"answers unknown while an update is on its way", []func(*sim){
			both(put(web("a")), image("2", simworld.Mute)), both(put(command(web("a"), "2")), after(6, answers(errUnknown)), after(6, put(command(web("a"), "3")))),
		}, func(t *testing.T, s *sim) {
			if !machine(s, "a-1").Running {
				t.Error("the machine that served was stopped while nobody knew who serves")
			}
		}},
		{"a missing secret in a spec that drops data", []func(*sim){
			put(withData(web("a"), "Delete")), put(withSecret(web("a"), "token")),
		}, func(t *testing.T, s *sim) {
			volume := s.world.Things[resource.ID{Kind: resource.KindVolume, Name: "container.a.data"}]
			if volume.Owner != ownerOf(s, "a") || !machine(s, "a-1").Running {
				t.Errorf("the running machine lost its data to %q", volume.Owner)
			}
		}},
		{"a clock that was set back", []func(*sim){
			put(web("a")), func(s *sim) { s.world.Kill("a-1", 1); s.jump(-24 * time.Hour) },
		}, func(t *testing.T, s *sim) { s.wantPhase("a", v1alpha1.PhaseReady) }},
		{"a plan while a file is being written", []func(*sim){
			put(web("a")), func(s *sim) { s.files["a.yaml"] = specFile{docs: s.files["a.yaml"].docs, tear: writing} },
		}, func(t *testing.T, s *sim) {
			if _, err := Report(s.conf, s.facts()); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSim(t)
			for _, change := range tt.changes {
				change(s)
				for range 150 {
					if !s.tick() && !s.wait() {
						break
					}
				}
			}
			tt.want(t, s)
		})
	}
}
