package plan

import (
	"errors"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/resource"
)

// TestProxyFails: routes go on beside a proxy that serves, though not with all
// that is wanted, and wait for one that does not.
func TestProxyFails(t *testing.T) {
	wanted := resource.New(resource.HostOwner, "", "caddy", resource.Proxy{HTTPPort: 80, HTTPSPort: 443})
	for _, serves := range []bool{true, false} {
		observed := resource.Proxy{}
		if serves {
			observed.HTTPPort = 80
		}
		o := with(emptyHost(), resource.New(resource.HostOwner, "", "caddy", observed))
		want := append(hostWide(), object("a", 1)...)
		for i, r := range want {
			if r.ID == wanted.ID {
				want[i] = wanted
			} else if r.Kind != resource.KindRoute {
				o = with(o, r)
			}
		}
		p := Make(Input{
			Desired: desired([]string{"a"}, want...), Observed: o, Now: now,
			Failures: map[resource.ID]resource.Failure{wanted.ID: {Message: "a broken certificate", RetryAt: now.Add(time.Minute)}},
		})
		if enters := find(p, resource.KindRoute) != nil; enters != serves {
			t.Errorf("serves %v: the route enters %v; blocked %v", serves, enters, p.Blocked)
		}
		if !serves && !strings.Contains(why(p, resource.KindRoute), "a broken certificate") {
			t.Errorf("blocked %v", p.Blocked)
		}
	}
}

// TestCauses: what waits for something that cannot be looked at says why, and
// what is wrong with the host before what follows from it.
func TestCauses(t *testing.T) {
	want := append(hostWide(), object("a", 1)...)
	var cluster resource.ID
	for _, r := range want {
		if r.Kind == resource.KindCluster {
			cluster = r.ID
		}
	}
	for _, fails := range []bool{true, false} {
		o := emptyHost()
		for _, r := range want {
			if r.Owner == resource.HostOwner && (r.ID != cluster || !fails) || r.Kind == resource.KindClaim || r.Kind == resource.KindPassword {
				o = with(o, r)
			}
		}
		for _, k := range []resource.Kind{resource.KindRole, resource.KindDatabase} {
			o[k] = resource.Unknown(errors.New("no answer"))
		}
		in, says := Input{Desired: desired([]string{"a"}, want...), Observed: o, Now: now}, "no answer"
		if fails {
			in.Failures, says = map[resource.ID]resource.Failure{cluster: {Message: "its port is taken", RetryAt: now.Add(time.Minute)}}, "its port is taken"
		}
		p := Make(in)
		for _, k := range []resource.Kind{resource.KindRole, resource.KindDatabase, resource.KindAccess} {
			if got := why(p, k); !strings.Contains(got, says) {
				t.Errorf("%s: %q does not say %q", k, got, says)
			}
		}
	}
}

// why the first thing of a kind is blocked.
func why(p Plan, k resource.Kind) string {
	for _, b := range p.Blocked {
		if b.Resource.Kind == k {
			return b.Why
		}
	}
	return ""
}

// TestHostWaitsForSteps: what objects stand on does not go while a step of one
// is in flight: it may be the one that puts something there.
func TestHostWaitsForSteps(t *testing.T) {
	o := with(emptyHost(), hostWide()...)
	for _, busy := range []string{"", "a", Claiming, resource.HostOwner + "/closure"} {
		in := Input{Desired: desired(nil), Observed: o, Now: now, Busy: map[string]bool{}}
		if busy != "" {
			in.Busy[busy] = true
		}
		if gone := find(Make(in), resource.KindCluster) != nil; gone != (busy != "a") {
			t.Errorf("with a step of %q in flight the cluster goes: %v", busy, gone)
		}
	}
}
