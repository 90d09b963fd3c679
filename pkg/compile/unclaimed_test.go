package compile

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

// TestLostClaimsAreNotGivenAway: what the host shows of a claim that the ledger
// has lost is not given to another object that asks for it first.
func TestLostClaimsAreNotGivenAway(t *testing.T) {
	port := func(s *v1alpha1.ContainerSpec) {
		s.Network.Ports = []v1alpha1.Port{{HostPort: 25, HostIP: "192.0.2.1"}}
	}
	route := routed("x.example.org")
	for name, tt := range map[string]struct {
		spec   func(*v1alpha1.ContainerSpec)
		lost   string // of the object that has it
		reason string
	}{
		"a route":                    {route, routePrefix, "RouteConflict"},
		"a route, with all the rest": {route, "", "RouteConflict"},
		"a port":                     {port, portPrefix, "PortConflict"},
		"a port, with all the rest":  {port, "", "PortConflict"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld("10.99.0.0/24")
			w.want("app", nil)
			w.want("web", tt.spec)
			w.settle()
			w.lose(func(e resource.Claim) bool { return e.Owner == "uid-web" && strings.HasPrefix(e.Key, tt.lost) })
			w.want("app", tt.spec)
			app := Compile(w.in).Objects[0]
			if len(app.Notes) != 1 || app.Notes[0].Reason != tt.reason {
				t.Errorf("notes are %v, want %s", app.Notes, tt.reason)
			}
		})
	}
}

// TestLostSlotIsNotGivenAway: nor is a slot, as long as there is a machine in it.
func TestLostSlotIsNotGivenAway(t *testing.T) {
	w := newWorld("10.99.0.0/24")
	w.want("web", nil)
	w.settle()
	w.lose(func(resource.Claim) bool { return true })
	w.in.Observed[resource.KindLink] = resource.Known() // the machine has ended
	w.in.Observed[resource.KindEndpoint] = resource.Known()
	w.in.Observed[resource.KindAttachment] = resource.Known()
	w.want("app", nil)
	out := Compile(w.in)
	if slot := out.Objects[0].Target.Slot; slot == 1 {
		t.Error("the new object has the slot of the old one")
	}
	if web := out.Objects[1]; web.Target != nil || len(web.Notes) != 1 || web.Notes[0].Reason != "LedgerDamaged" {
		t.Errorf("the old one: %+v", web)
	}
}

// TestDataOfNobody: data that is left, and of which the ledger has lost whose it
// is, is for nobody.
func TestDataOfNobody(t *testing.T) {
	w := newWorld("10.99.0.0/24")
	w.set(resource.New(resource.RetainedOwner, "", "container.web.data", resource.Volume{}))
	w.want("web", all)
	out := Compile(w.in)
	if n := out.Objects[0].Notes; len(n) == 0 || n[0].Reason != "DataConflict" {
		t.Errorf("notes are %v, want DataConflict", n)
	}
	if _, wanted := out.Desired.Present[resource.ID{Kind: resource.KindVolume, Name: "container.web.data"}]; wanted {
		t.Error("it is taken over")
	}
}

// TestRolledBackOfOlderVersions: their ledgers have an entry of its own for what
// was rolled back. It moves, and the failed update is not tried again.
func TestRolledBackOfOlderVersions(t *testing.T) {
	w := newWorld("10.99.0.0/24")
	w.want("web", nil)
	w.settle()
	w.want("web", func(s *v1alpha1.ContainerSpec) { s.User = "nobody" })
	failed := RolledBackRecord{Fingerprint: Fingerprint(w.in.Objects[0].Spec.Machine(), []string{}), Reason: resource.ReasonProbeFailed}
	old := claim(rolledBackPrefix+"uid-web", "uid-web", failed)
	w.claims(append(slices.Collect(maps.Values(w.in.Claims.All)), old.Value.(resource.Claim))...)
	out := w.settle()
	if web := out.Objects[0]; web.Target.Ordinal != 1 || web.Target.RolledBack == nil || len(web.Notes) != 1 {
		t.Errorf("target %+v, notes %v", web.Target.InstanceRecord, web.Notes)
	}
	if _, there := w.in.Claims.All[old.Name]; there {
		t.Error("the old entry stays")
	}
}

// lose takes claims out of the ledger.
func (w *world) lose(lost func(resource.Claim) bool) {
	var left []resource.Claim
	for _, e := range w.in.Claims.All {
		left = append(left, e)
	}
	w.claims(slices.DeleteFunc(left, lost)...)
}
