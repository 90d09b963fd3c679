package supervise_test

import (
	"testing"

	"tekton.host/pkg/supervise"
	"tekton.host/pkg/supervise/cgroup"
)

// TestUnmarkedGroup: a daemon died after it had made a unit's cgroup and before
// it said whose it is.
func TestUnmarkedGroup(t *testing.T) {
	f := newFixture(t)
	if f.options.Form != supervise.Supervised {
		return // under systemd groups are systemd's
	}
	host, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	spec := f.spec("x", "sleep")
	if err := host.Group(f.options.Parent).Child(spec.Unit).Create(); err != nil {
		t.Fatal(err)
	}
	f.start(f.dir("x"), spec)
}
