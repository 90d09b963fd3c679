package compile

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

// describes wants a Repository of a verdict, beside what is wanted already.
func (w *world) describes(v Verdict) ObjectRecord {
	r := &v1alpha1.Repository{Metadata: v1alpha1.ObjectMeta{Name: "shop"}, Spec: v1alpha1.RepositorySpec{URL: previewURL}}
	r.Default(&w.in.Host)
	raw, _ := json.Marshal(r)
	record := ObjectRecord{UID: "uid-repository", Kind: r.Kind, Name: "shop", Source: "local", File: "r.yaml", Line: 1, Generation: 1, Digest: "1", Object: raw}
	w.in.Objects = append(w.in.Objects, Object{Record: record, Verdict: v, Spec: r})
	return record
}

// TestRepositoryNeedsNothing: all that there is of a Repository is its entry in
// the ledger, which is kept while it is wanted, held or refused.
func TestRepositoryNeedsNothing(t *testing.T) {
	for _, v := range []Verdict{Wanted, Held, Refused} {
		w := newWorld("10.100.0.0/16")
		w.describes(v)
		out := Compile(w.in)
		want := []resource.ID{{Kind: resource.KindClaim, Name: "object/Repository/shop"}}
		if got := slices.Collect(maps.Keys(out.Desired.Present)); !slices.Equal(got, want) || !out.Desired.Complete["uid-repository"] {
			t.Errorf("%s: wanted are %v", v, got)
		}
		if o := out.Objects[0]; !o.RunsNoMachine() || len(o.Notes) > 0 || !out.NextWake.IsZero() {
			t.Errorf("%s: %+v, wakes %s", v, o, out.NextWake)
		}
	}
}

// TestRepositoryBesideItsNamesake: an object that runs a machine may have the
// same name; each keeps its own claims.
func TestRepositoryBesideItsNamesake(t *testing.T) {
	w := previewWorld()
	w.describes(Wanted)
	out := Compile(w.in)
	for _, key := range []string{"object/shop", "object/Repository/shop"} {
		if _, wanted := out.Desired.Present[resource.ID{Kind: resource.KindClaim, Name: key}]; !wanted {
			t.Errorf("%s is not wanted", key)
		}
	}
}

// TestGoneRepository: first the tombstone, then nothing; no service that cannot
// be looked at delays that.
func TestGoneRepository(t *testing.T) {
	w := newWorld("10.100.0.0/16")
	record := w.describes(Gone)
	for _, k := range databaseKinds {
		w.in.Observed[k] = resource.Unknown(errors.New("no answer"))
	}
	claim := func(key string, v any) resource.Claim { return claim(key, record.UID, v).Value.(resource.Claim) }
	w.claims(claim(ObjectKey(record.Kind, record.Name), record))
	out := Compile(w.in)
	if _, buried := out.Desired.Present[resource.ID{Kind: resource.KindClaim, Name: TombstoneKey(record.UID)}]; !buried || out.Desired.Complete[record.UID] {
		t.Errorf("without its tombstone: %v", out.Desired.Present)
	}
	w.claims(claim(ObjectKey(record.Kind, record.Name), record), claim(TombstoneKey(record.UID), TombstoneRecord{ObjectRecord: record}))
	out = Compile(w.in)
	if len(out.Desired.Present) > 0 || !out.Desired.Complete[record.UID] {
		t.Errorf("buried: %v", out.Desired.Present)
	}
}

// TestGoingPreviewHoldsTheHost: while it is not known what a preview was that
// goes, nothing of the host's own goes that it may need.
func TestGoingPreviewHoldsTheHost(t *testing.T) {
	w := previewWorld()
	w.in.Objects[0].Verdict = Gone
	proxy := resource.New(resource.HostOwner, "", "caddy", resource.Proxy{})
	w.in.Observed[resource.KindProxy] = resource.Known(proxy)
	if out := Compile(w.in); !out.Desired.Held[proxy.ID] {
		t.Error("the proxy goes")
	}
}
