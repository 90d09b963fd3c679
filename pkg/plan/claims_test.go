package plan

import (
	"testing"

	"tekton.host/pkg/resource"
)

// TestNewClaimsWaitForOthers: while a slot's claim is in flight the slot looks
// free. A second object's claims, made then, would name the same one.
func TestNewClaimsWaitForOthers(t *testing.T) {
	claim := func(owner, key, value string) resource.Resource {
		return resource.New(owner, "", key, resource.Claim{Key: key, Owner: owner, Value: []byte(value)})
	}
	known, changed := claim("old", "object/old", "1"), claim("old", "object/old", "2")
	in := Input{
		Desired:  desired([]string{"old", "new"}, changed, claim("new", "object/new", ""), claim("new", "instance/new/1", ""), claim(resource.HostOwner, "slot/7", "new-1")),
		Observed: with(emptyHost(), known), Now: now, Busy: map[string]bool{Claiming: true},
	}
	steps := Make(in).Steps
	if len(steps) != 1 || steps[0].Resource.Name != "object/old" {
		t.Errorf("with claims in flight: %v, want only the change of what is there", steps)
	}
	in.Busy = nil
	if steps := Make(in).Steps; len(steps) != 4 {
		t.Errorf("with nothing in flight: %v", steps)
	}
}
