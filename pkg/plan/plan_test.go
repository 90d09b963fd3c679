package plan

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tekton.host/pkg/resource"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var addr = netip.MustParseAddr("10.99.0.3")

// object is what one object with everything asks for.
func object(uid string, slot int) []resource.Resource {
	m, l := uid+"-1", fmt.Sprintf("tk%d", slot)
	link := resource.Link{Name: l}
	return []resource.Resource{
		resource.New(uid, "", "object/"+uid, resource.Claim{Key: "object/" + uid, Owner: uid}),
		resource.New(uid, "", uid, resource.Password{File: uid}),
		resource.New(uid, "", uid, resource.Role{Name: uid}),
		resource.New(uid, "", uid, resource.Database{Name: uid}),
		resource.New(uid, m, uid+"@", resource.Access{Role: uid}),
		resource.New(uid, "", uid+".data", resource.Volume{Volume: "data"}),
		resource.New(uid, m, l, resource.Endpoint{Link: l}),
		resource.New(uid, m, m, resource.Instance{Name: m}),
		resource.New(uid, m, l, link),
		resource.New(uid, m, m, resource.Unit{Name: m, Running: true}),
		resource.New(uid, m, l, resource.Attachment{Link: link}),
		resource.New(uid, m, m, resource.Answer{Boot: "b"}),
		resource.New(uid, "", uid, resource.Record{Label: uid}),
		resource.New(uid, "", uid+".example.org/", resource.Route{Host: uid}),
	}
}

func hostWide() []resource.Resource {
	add := func(name string, v resource.Value) resource.Resource {
		return resource.New(resource.HostOwner, "", name, v)
	}
	return []resource.Resource{
		add("ip_forward", resource.Sysctl{Key: "ip_forward"}), add("10.99.0.1", resource.Address{Addr: addr}), add("tekton", resource.Table{}),
		add("policy", resource.Policy{}), add("postgres", resource.Cluster{}), add("caddy", resource.Proxy{}), add("dns", resource.Resolver{}),
	}
}

func desired(complete []string, rs ...resource.Resource) resource.Desired {
	d := resource.Desired{
		Present: resource.NewSet(rs...), Complete: map[string]bool{resource.HostOwner: true}, Held: map[resource.ID]bool{},
		Policies: map[resource.ID]resource.DeletionPolicy{}, Exclusive: map[resource.ID]bool{},
	}
	for _, uid := range complete {
		d.Complete[uid] = true
	}
	return d
}

func emptyHost() resource.Observed {
	o := resource.Observed{}
	for k := range putNeeds {
		o[k] = resource.Known()
	}
	return o
}

func with(o resource.Observed, rs ...resource.Resource) resource.Observed {
	for _, r := range rs {
		o[r.Kind].Items[r.ID] = r
	}
	return o
}

func apply(o resource.Observed, steps []resource.Step) {
	for _, s := range steps {
		if s.Verb == resource.Put {
			o[s.Resource.Kind].Items[s.Resource.ID] = s.Resource
		} else {
			delete(o[s.Resource.Kind].Items, s.Resource.ID)
		}
	}
}

// rounds plans and applies until nothing is left, a line a round.
func rounds(t *testing.T, d resource.Desired, o resource.Observed) []string {
	t.Helper()
	var out []string
	for range 20 {
		p := Make(Input{Desired: d, Observed: o, Now: now})
		if len(p.Steps) == 0 {
			if len(p.Blocked) > 0 {
				t.Fatalf("stuck: %v", p.Blocked)
			}
			return out
		}
		var line []string
		for _, s := range p.Steps {
			line = append(line, s.String())
		}
		out = append(out, strings.Join(line, ", "))
		apply(o, p.Steps)
	}
	t.Fatal("the plan does not come to an end")
	return nil
}

func TestOrderOfCreation(t *testing.T) {
	got := rounds(t, desired([]string{"a"}, append(hostWide(), object("a", 1)...)...), emptyHost())
	want := []string{
		"put address/10.99.0.1, put claim/object/a, put policy/policy, put proxy/caddy, put sysctl/ip_forward, put table/tekton",
		"put cluster/postgres, put endpoint/tk1, put instance/a-1, put password/a, put record/a, put resolver/dns, put route/a.example.org/, put volume/a.data",
		"put link/tk1, put role/a",
		"put database/a",
		"put access/a@",
		"put unit/a-1",
		"put attachment/tk1",
		"put answer/a-1",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestOrderOfDeletion(t *testing.T) {
	rs := append(hostWide(), object("a", 1)...)
	d := desired([]string{"a"})
	d.Policies[resource.ID{Kind: resource.KindDatabase, Name: "a"}] = resource.DeleteData
	got := rounds(t, d, with(emptyHost(), rs[:len(rs)-3]...)) // without answer, record, route
	want := []string{
		"delete claim/object/a, delete proxy/caddy, delete unit/a-1",
		"delete access/a@, delete attachment/tk1, delete link/tk1, delete resolver/dns, delete volume/a.data",
		"delete database/a, delete endpoint/tk1, delete sysctl/ip_forward",
		"delete instance/a-1, delete policy/policy, delete role/a, delete table/tekton",
		"delete cluster/postgres, delete password/a",
		"delete address/10.99.0.1",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestRouteOutBeforeStop(t *testing.T) {
	rs := object("a", 1)
	p := Make(Input{Desired: desired([]string{"a"}), Observed: with(emptyHost(), rs...), Now: now})
	for _, s := range p.Steps {
		if s.Resource.Kind == resource.KindUnit {
			t.Errorf("%s while the route is still in", s)
		}
	}
}

func find(p Plan, kind resource.Kind) *resource.Step {
	for i := range p.Steps {
		if p.Steps[i].Resource.Kind == kind {
			return &p.Steps[i]
		}
	}
	return nil
}

func TestUnits(t *testing.T) {
	unit := resource.New("a", "a-1", "a-1", resource.Unit{Name: "a-1", Running: true, Generation: 1})
	running := func(name string, generation int64) resource.Resource {
		return resource.New("a", name, name, resource.Unit{Name: name, Running: true, Generation: generation})
	}
	tests := map[string]struct {
		observed  []resource.Resource
		exclusive bool
		want      string
	}{
		"starts":                            {nil, false, "put unit/a-1"},
		"runs":                              {[]resource.Resource{running("a-1", 1)}, false, ""},
		"a restart is a stop first":         {[]resource.Resource{running("a-1", 0)}, false, "delete unit/a-1"},
		"an ended one starts again":         {[]resource.Resource{resource.New("a", "a-1", "a-1", resource.Unit{Name: "a-1"})}, false, "put unit/a-1"},
		"not beside another when exclusive": {[]resource.Resource{running("a-0", 0)}, true, ""},
		"beside another when not":           {[]resource.Resource{running("a-0", 0)}, false, "put unit/a-1"},
		"not while the old link is attached": {[]resource.Resource{
			resource.New("a", "a-1", "tk1", resource.Attachment{Link: resource.Link{Name: "tk1"}}),
		}, false, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := desired(nil, unit)
			d.Exclusive[unit.ID] = tt.exclusive
			p := Make(Input{Desired: d, Observed: with(emptyHost(), tt.observed...), Now: now})
			got := ""
			if s := find(p, resource.KindUnit); s != nil {
				got = s.String()
			}
			if got != tt.want {
				t.Errorf("plans %q, want %q; blocked %v", got, tt.want, p.Blocked)
			}
		})
	}
}

func TestThreeValues(t *testing.T) {
	volume := resource.New("a", "", "a.data", resource.Volume{Volume: "data", Policy: resource.DeleteData})
	tests := map[string]struct {
		edit func(*resource.Desired, resource.Observed)
		want resource.DeletionPolicy // "": no step
	}{
		"absent, policy delete":  {func(d *resource.Desired, _ resource.Observed) { d.Policies[volume.ID] = resource.DeleteData }, resource.DeleteData},
		"absent, policy unknown": {func(*resource.Desired, resource.Observed) {}, resource.RetainData},
		"held":                   {func(d *resource.Desired, _ resource.Observed) { d.Held[volume.ID] = true }, ""},
		"owner not compiled":     {func(d *resource.Desired, _ resource.Observed) { d.Complete["a"] = false }, ""},
		"another owner wants it": {func(d *resource.Desired, _ resource.Observed) {
			d.Present[volume.ID] = resource.New("b", "", "a.data", resource.Volume{Volume: "data"})
		}, ""},
		"units unknown": {func(_ *resource.Desired, o resource.Observed) {
			o[resource.KindUnit] = resource.Unknown(errors.New("no answer"))
		}, ""},
		"volumes unknown": {func(_ *resource.Desired, o resource.Observed) {
			o[resource.KindVolume] = resource.Unknown(errors.New("no answer"))
		}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d, o := desired([]string{"a"}), with(emptyHost(), volume)
			tt.edit(&d, o)
			p := Make(Input{Desired: d, Observed: o, Now: now})
			got := resource.DeletionPolicy("")
			for _, s := range p.Steps {
				if s.Verb == resource.Delete {
					got = s.Resource.Value.(resource.Volume).Policy
				}
			}
			if got != tt.want {
				t.Errorf("deletes with policy %q, want %q; %v", got, tt.want, p.Steps)
			}
		})
	}
}

func TestMasks(t *testing.T) {
	claim := object("a", 1)[0]
	later := now.Add(time.Minute)
	tests := map[string]struct {
		in   Input
		step bool
		wake time.Time
	}{
		"nothing in the way": {Input{}, true, time.Time{}},
		"busy":               {Input{Busy: map[string]bool{"a": true}}, false, time.Time{}},
		"retried later":      {Input{Failures: map[resource.ID]resource.Failure{claim.ID: {RetryAt: later}}}, false, later},
		"retried now":        {Input{Failures: map[resource.ID]resource.Failure{claim.ID: {RetryAt: now}}}, true, time.Time{}},
		"terminal":           {Input{Failures: map[resource.ID]resource.Failure{claim.ID: {}}}, false, time.Time{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.in.Desired, tt.in.Observed, tt.in.Now = desired(nil, claim), emptyHost(), now
			p := Make(tt.in)
			if (len(p.Steps) == 1) != tt.step || !p.NextWake.Equal(tt.wake) {
				t.Errorf("steps %v, wake %v; want a step %v, wake %v", p.Steps, p.NextWake, tt.step, tt.wake)
			}
		})
	}
}

// TestDatabaseDown: an instance that has answered before starts again while
// PostgreSQL cannot be looked at; one that never has does not.
func TestDatabaseDown(t *testing.T) {
	for _, answered := range []bool{true, false} {
		var have, want []resource.Resource
		for _, r := range append(hostWide(), object("a", 1)...) {
			want = append(want, r)
			switch r.Kind {
			case resource.KindUnit, resource.KindAttachment, resource.KindRole, resource.KindDatabase, resource.KindAccess:
			case resource.KindAnswer:
				if answered {
					have = append(have, r)
				}
			default:
				have = append(have, r)
			}
		}
		o := with(emptyHost(), have...)
		for _, k := range []resource.Kind{resource.KindRole, resource.KindDatabase, resource.KindAccess} {
			o[k] = resource.Unknown(errors.New("down"))
		}
		p := Make(Input{Desired: desired([]string{"a"}, want...), Observed: o, Now: now})
		if starts := find(p, resource.KindUnit) != nil; starts != answered {
			t.Errorf("answered before %v: starts %v; blocked %v", answered, starts, p.Blocked)
		}
	}
}

// TestPlanConverges: from any part of the wanted things and any leftovers, the
// plans come to an end at exactly what is wanted.
func TestPlanConverges(t *testing.T) {
	all := append(append(hostWide(), object("a", 1)...), object("b", 2)...)
	rapid.Check(t, func(rt *rapid.T) {
		var want, have []resource.Resource
		uids := []string{"a", "b"}
		gone := rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "gone")
		for _, r := range all {
			if r.Owner != gone {
				want = append(want, r)
			}
			attached := r.Kind == resource.KindAttachment || r.Kind == resource.KindAnswer
			if !attached && rapid.Bool().Draw(rt, r.ID.String()) {
				have = append(have, r)
			}
		}
		o := with(emptyHost(), have...)
		d := desired(uids, want...)
		for range 30 {
			p := Make(Input{Desired: d, Observed: o, Now: now})
			if p.Converged() {
				for _, r := range want {
					if _, present, _ := o.Get(r.ID); !present {
						rt.Fatalf("%s is missing", r.ID)
					}
				}
				return
			}
			if len(p.Steps) == 0 {
				rt.Fatalf("stuck: %v", p.Blocked)
			}
			apply(o, p.Steps)
		}
		rt.Fatal("the plan does not come to an end")
	})
}
