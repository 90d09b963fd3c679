package reconcile

import (
	"context"
	"fmt"
	"strings"
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
			if _, err := Report(context.Background(), s.conf, s.facts()); err != nil {
				t.Error(err)
			}
		}},
		{"nobody knows who has answered while an object is disabled and gives up a route", []func(*sim){
			put(routed(web("a"), "shared.example.org")), func(s *sim) {
				s.put("a.yaml", disabled(withData(web("a"), "Delete")))
				s.ignorant(singles...)
			},
		}, func(t *testing.T, s *sim) { s.wantPhase("a", v1alpha1.PhaseDisabled) }},
		{"a port is wanted while another one's claim on every address is under way", []func(*sim){
			both(put(web("a")), put(web("b"))), func(s *sim) {
				s.put("b.yaml", withPort(web("b"), "0.0.0.0"))
				s.pass()
				s.put("a.yaml", withPort(web("a"), "192.0.2.1"))
			},
		}, func(t *testing.T, s *sim) {
			s.wantPhase("b", v1alpha1.PhaseReady)
			if i := s.item("a"); !strings.Contains(fmt.Sprint(i.Status.Conditions), "PortConflict") {
				t.Errorf("the first claim did not win: %+v\n%s", i.Status.Conditions, s.history())
			}
		}},
		{"a secret is missing for a spec that drops data", []func(*sim){
			put(withData(web("a"), "Delete")), put(withSecret(web("a"), "token")),
		}, func(t *testing.T, s *sim) { runsWithData(t, s) }},
		{"a secret is missing for a spec that drops data which is not made yet", []func(*sim){
			func(s *sim) {
				s.put("a.yaml", withData(web("a"), "Delete"))
				for s.world.Claims["object/a"].Owner == "" {
					s.tick()
				}
				s.put("a.yaml", withSecret(web("a"), "token"))
			},
		}, func(t *testing.T, s *sim) {
			if n := len(s.last.Plan.Blocked) + len(s.core.failures); n > 0 {
				t.Errorf("%d differences are left: %v %v", n, s.last.Plan.Blocked, s.core.failures)
			}
		}},
		{"retained data keeps the claims that say whose it is", []func(*sim){
			put(withData(web("a"), "Retain")), remove("a"),
		}, func(t *testing.T, s *sim) {
			for _, key := range []string{"data/volume/container.a.data", "data/database/tekton_container_a_main"} {
				if _, kept := s.world.Claims[key]; !kept {
					t.Errorf("nobody knows whose %s is", key)
				}
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

// runsWithData wants machine a-1 as it was made: with its database and volume.
func runsWithData(t *testing.T, s *sim) {
	t.Helper()
	o := s.world.Observe()
	for _, id := range []resource.ID{
		{Kind: resource.KindAccess, Name: "tekton_container_a_main@10.99.0.3"}, {Kind: resource.KindDatabase, Name: "tekton_container_a_main"},
		{Kind: resource.KindVolume, Name: "container.a.data"},
	} {
		if r, there, _ := o.Get(id); !there || r.Owner == resource.RetainedOwner {
			t.Errorf("%s is not there any more; history:\n%s", id, s.history())
		}
	}
	if e, there, _ := o.Get(resource.ID{Kind: resource.KindEndpoint, Name: "tk1"}); !there || !e.Value.(resource.Endpoint).Database {
		t.Error("the machine does not reach its database")
	}
	if u, there, _ := o.Get(resource.ID{Kind: resource.KindUnit, Name: "a-1"}); !there || !u.Value.(resource.Unit).Running || s.world.Starts["a-1"] != 1 {
		t.Error("the machine was stopped")
	}
}
