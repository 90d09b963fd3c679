package reconcile

import (
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

// TestRegressions are the histories that failed once, by name.
func TestRegressions(t *testing.T) {
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
		{"nobody knows who has answered while an object is disabled and gives up a route", []func(*sim){
			put(routed(web("a"), "shared.example.org")), func(s *sim) {
				s.put("a.yaml", disabled(withData(web("a"), "Delete")))
				s.ignorant(singles...)
			},
		}, func(t *testing.T, s *sim) { s.wantPhase("a", v1alpha1.PhaseDisabled) }},
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
