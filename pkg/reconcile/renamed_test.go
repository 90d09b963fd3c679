package reconcile

import (
	"path/filepath"
	"strings"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/resource"
)

// configure starts the daemon anew with one source.
func (s *sim) configure(name, path string) {
	s.conf.Host.Sources = []v1alpha1.SourceConfig{{Name: name, Path: path}}
	s.restart()
}

// TestRenamedSource: with another name for the same directory objects and data
// are what they were, and stay so after their deletion.
func TestRenamedSource(t *testing.T) {
	s := newSim(t)
	const dir = "/srv/specs"
	s.configure("local", dir)
	kept, gone, left := filepath.Join(dir, "kept.yaml"), filepath.Join(dir, "gone.yaml"), filepath.Join(dir, "left.yaml")
	s.put(left, withData(web("left"), "Retain"))
	s.settle()
	s.delete(left)
	s.put(kept, withData(web("kept"), "Retain"))
	s.put(gone, withData(web("gone"), "Delete"))
	s.settle()
	before := s.item("kept")

	s.configure("own", dir+"/")
	from := len(s.events)
	s.settle()
	for key, d := range s.core.claims.index.Data {
		if d.Source != "own" || !strings.Contains(string(s.core.claims.index.All["data/"+key].Value), `"own"`) {
			t.Errorf("%s is of source %q in the ledger", key, d.Source)
		}
	}
	for _, e := range s.events[from:] {
		if e.step.Verb != "" && e.step.Resource.Kind != resource.KindClaim {
			t.Errorf("%s (%s)", e.step, e.step.Reason)
		}
	}
	s.quiet()
	for _, name := range []string{"kept", "gone"} {
		s.wantPhase(name, v1alpha1.PhaseReady)
		if got := s.item(name).Metadata.Source.Name; got != "own" {
			t.Errorf("%s belongs to source %q", name, got)
		}
	}
	if now := s.item("kept"); now.Metadata.UID != before.Metadata.UID || now.Metadata.Generation != before.Metadata.Generation {
		t.Errorf("%+v became %+v", before.Metadata, now.Metadata)
	}

	s.delete(gone)
	s.delete(kept)
	s.settle()
	if items := s.last.Items; len(items) > 0 {
		t.Errorf("left: %v", items)
	}
	for name, file := range map[string]string{"kept": kept, "left": left} {
		s.put(file, withData(web(name), "Retain"))
		s.settle()
		s.wantPhase(name, v1alpha1.PhaseReady) // its data is its own again
	}
}

// TestRenamedWhileBeingDeleted: the deletion goes on, and takes the data along.
func TestRenamedWhileBeingDeleted(t *testing.T) {
	s := newSim(t)
	s.configure("local", "/srv/specs")
	s.put("/srv/specs/web.yaml", withData(web("web"), "Delete"))
	s.settle()
	s.delete("/srv/specs/web.yaml")
	for s.last.Compiled.Desired.Policies == nil || len(s.core.claims.index.Tombstones) == 0 {
		if !s.tick() && !s.wait() {
			t.Fatal("the deletion does not begin")
		}
	}
	s.configure("own", "/srv/specs")
	s.settle()
	s.jump(horizon * 6)
	s.settle()
	if len(s.last.Items) > 0 || s.count(resource.KindVolume) > 0 || s.count(resource.KindDatabase) > 0 {
		t.Errorf("left: %v, of the host:\n%v", s.last.Items, s.world.Snapshot())
	}
	if claims := s.core.claims.index.Data; len(claims) > 0 {
		t.Errorf("left in the ledger: %v", claims)
	}
}

// TestReplacedSource: another directory is another source, whatever it has.
func TestReplacedSource(t *testing.T) {
	s := newSim(t)
	s.configure("local", "/srv/specs")
	s.put("/srv/specs/web.yaml", web("web"))
	s.settle()
	s.configure("own", "/srv/others")
	s.rename("/srv/specs/web.yaml", "/srv/others/web.yaml")
	s.settle()
	held := s.wantCondition("web", v1alpha1.ConditionHeld, v1alpha1.ConditionTrue, "LastGoodStays")
	if s.item("web").Metadata.Source.Name != "local" || !s.runs("web") || !strings.Contains(held.Message, "no longer configured") {
		t.Errorf("%+v, %+v", s.item("web").Metadata, held)
	}
}

// TestRenamedWithNothingLeft: of data alone nobody can tell which directory it
// came from; the former name, which is told, brings it back.
func TestRenamedWithNothingLeft(t *testing.T) {
	s := newSim(t)
	const file = "/srv/specs/web.yaml"
	s.configure("local", "/srv/specs")
	s.put(file, withData(web("web"), "Retain"))
	s.settle()
	s.delete(file)
	s.settle()
	s.configure("own", "/srv/specs")
	s.put(file, withData(web("web"), "Retain"))
	s.settle()
	if told := s.wantCondition("web", v1alpha1.ConditionReady, v1alpha1.ConditionFalse, "DataConflict"); !strings.Contains(told.Message, `No source is named "local" now`) {
		t.Errorf("%+v", told)
	}
	s.configure("local", "/srv/specs")
	s.settle()
	s.wantPhase("web", v1alpha1.PhaseReady)
	s.configure("own", "/srv/specs")
	s.settle()
	s.wantPhase("web", v1alpha1.PhaseReady)
}

// TestRenamedData: data goes with its object, and without one where all of its
// source goes; what came from several directories stays.
func TestRenamedData(t *testing.T) {
	record := func(name, file string) compile.ObjectRecord {
		return compile.ObjectRecord{UID: name, Kind: "Container", Name: name, Source: "local", File: file}
	}
	sources := []v1alpha1.SourceConfig{{Name: "own", Path: "/srv/specs"}, {Name: "other", Path: "/srv/others"}}
	for second, want := range map[string]string{"/srv/specs/b.yaml": "own", "/srv/others/b.yaml": "local", "/srv/nowhere/b.yaml": "local"} {
		claims := compile.Claims{
			ByUID: map[string]compile.ObjectRecord{"a": record("a", "/srv/specs/a.yaml"), "b": record("b", second)},
			Data: map[string]compile.DataRecord{
				"volume/a":    {Kind: "Container", Name: "a", Source: "local"},
				"volume/left": {Kind: "Container", Name: "left", Source: "local"},
				"volume/far":  {Kind: "Container", Name: "far", Source: "former"},
			},
		}
		renamed(claims, sources)
		for key, want := range map[string]string{"volume/a": "own", "volume/left": want, "volume/far": "former"} {
			if got := claims.Data[key].Source; got != want {
				t.Errorf("beside %s: %s is of source %q, want %q", second, key, got, want)
			}
		}
	}
}
