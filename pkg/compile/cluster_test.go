package compile

import (
	"errors"
	"net/netip"
	"testing"

	"tekton.host/pkg/resource"
)

// TestMuteCluster: a server that nobody needs and that cannot be asked is
// brought up, so that it can be asked and go.
func TestMuteCluster(t *testing.T) {
	down := resource.Known(resource.New(resource.HostOwner, "", "postgres", resource.Cluster{}))
	up := resource.Known(resource.New(resource.HostOwner, "", "postgres", resource.Cluster{Listen: netip.MustParseAddrPort("10.100.0.1:5432"), MaxConnections: 200}))
	id := resource.ID{Kind: resource.KindCluster, Name: "postgres"}
	tests := map[string]struct {
		cluster, roles resource.Domain
		want           bool
	}{
		"none":          {resource.Known(), resource.Known(), false},
		"up and empty":  {up, resource.Known(), false},
		"down":          {down, resource.Unknown(errors.New("no answer")), true},
		"does not tell": {up, resource.Unknown(errors.New("no answer")), true},
		"itself unseen": {resource.Unknown(errors.New("no access")), resource.Unknown(errors.New("no answer")), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld("10.100.0.0/16")
			w.in.Observed[resource.KindCluster], w.in.Observed[resource.KindRole] = tt.cluster, tt.roles
			if _, got := Compile(w.in).Desired.Present[id]; got != tt.want {
				t.Errorf("wanted %v, expected %v", got, tt.want)
			}
		})
	}
}
