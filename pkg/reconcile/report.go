package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/spec"
)

// Report is the plan that the engine would carry out from these facts, for
// people and programs. It ends early with ctx.
func Report(ctx context.Context, c Config, f Facts) (v1alpha1.PlanReport, error) {
	fc, err := forecast(ctx, c, f)
	if err != nil {
		return v1alpha1.PlanReport{}, err
	}
	claims, err := compile.ReadClaims(f.Claims)
	if err != nil {
		return v1alpha1.PlanReport{}, err
	}
	r := reporter{forecast: fc, claims: claims, last: map[string]compile.Compiled{}, steps: map[string][]resource.Step{}, had: map[string][]resource.Resource{}}
	for _, o := range fc.Last.Compiled.Objects {
		r.last[o.Record.UID] = o
	}
	for _, k := range []resource.Kind{resource.KindDatabase, resource.KindVolume} {
		for _, have := range f.Observed[k].Items.Sorted() {
			r.had[have.Owner] = append(r.had[have.Owner], have)
		}
	}
	for _, s := range fc.Steps {
		r.steps[s.Resource.Owner] = append(r.steps[s.Resource.Owner], s)
	}
	var out v1alpha1.PlanReport
	for _, o := range fc.First.Compiled.Objects {
		out.Objects = append(out.Objects, r.object(o))
	}
	slices.SortFunc(out.Objects, func(a, b v1alpha1.PlanObject) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	for _, p := range fc.First.Problems {
		out.Warnings = append(out.Warnings, p.Error())
	}
	for _, s := range fc.First.Sources {
		if s.Message != "" {
			out.Warnings = append(out.Warnings, fmt.Sprintf("source %s: %s", s.Name, s.Message))
		}
	}
	return out, nil
}

type reporter struct {
	forecast Forecast
	claims   compile.Claims
	// By UID: what objects come to in the end, what is done for them, and the data that they have now.
	last  map[string]compile.Compiled
	steps map[string][]resource.Step
	had   map[string][]resource.Resource
}

func (r reporter) object(o compile.Compiled) v1alpha1.PlanObject {
	rec := o.Record
	p := v1alpha1.PlanObject{
		Kind: rec.Kind, Name: rec.Name, Source: v1alpha1.SourcePosition{Name: rec.Source, File: rec.File, Line: rec.Line},
	}
	for _, s := range r.steps[rec.UID] {
		p.Steps = append(p.Steps, s.String())
	}
	old, existed := r.claims.ByUID[rec.UID]
	switch {
	case o.Verdict == compile.Gone:
		p.Action = v1alpha1.PlanDelete
	case !existed:
		p.Action = v1alpha1.PlanCreate
		p.Fields = v1alpha1.Diff(nil, rec.Object)
	case old.Digest != rec.Digest:
		p.Action = v1alpha1.PlanUpdate
		p.Fields = v1alpha1.Diff(old.Object, rec.Object)
	case len(p.Steps) > 0:
		p.Action = v1alpha1.PlanRestart
		if !r.touchesUnit(rec.UID) {
			p.Action = v1alpha1.PlanUpdate
		}
	default:
		p.Action = v1alpha1.PlanNone
	}
	r.classify(o, &p)
	p.Data = r.data(o)
	for _, n := range o.Notes {
		if n.Status != v1alpha1.ConditionTrue {
			p.Warnings = append(p.Warnings, n.Message)
		}
		if n.Type == v1alpha1.ConditionFetched && n.Status != v1alpha1.ConditionTrue && p.Class != "" {
			p.Warnings = append(p.Warnings, "what will be fetched is not known: this is the plan for a commit whose configuration is that of now")
		}
	}
	return p
}

func (r reporter) touchesUnit(uid string) bool {
	return slices.ContainsFunc(r.steps[uid], func(s resource.Step) bool { return s.Resource.Kind == resource.KindUnit })
}

// classify says what a change means for the running machine.
func (r reporter) classify(o compile.Compiled, p *v1alpha1.PlanObject) {
	if p.Action != v1alpha1.PlanUpdate && p.Action != v1alpha1.PlanRestart {
		return
	}
	p.Class = r.setupClass(o.Record.UID)
	if r.touchesUnit(o.Record.UID) {
		p.Class, p.Strategy = v1alpha1.PlanRestarts, cmp.Or(o.Update, compile.StrategyRecreate)
	}
	instances := r.claims.Instances[o.Record.UID]
	last, found := r.last[o.Record.UID]
	if found && last.Target != nil && len(instances) > 0 && last.Target.Ordinal != instances[len(instances)-1].Ordinal {
		p.Class, p.Strategy = v1alpha1.PlanReplacement, cmp.Or(o.Update, compile.StrategyRecreate)
	}
}

// setupClass says what a change means for what runs in a machine that keeps running.
func (r reporter) setupClass(uid string) v1alpha1.PlanClass {
	class := v1alpha1.PlanHot
	for _, s := range r.steps[uid] {
		want, ok := s.Resource.Value.(resource.Setup)
		if !ok || s.Verb != resource.Put || s.Seen == nil {
			continue
		}
		switch have := s.Seen.Value.(resource.Setup); {
		case !want.SameWork(have) || want.Attempt > have.Attempt:
			return v1alpha1.PlanSetup
		case !want.SameStart(have):
			class = v1alpha1.PlanServices
		}
	}
	return class
}

// data says what becomes of the object's data.
func (r reporter) data(o compile.Compiled) []v1alpha1.PlanData {
	var out []v1alpha1.PlanData
	for _, s := range r.steps[o.Record.UID] {
		if dump, isDump := s.Resource.Value.(resource.Dump); isDump && s.Verb == resource.Put {
			out = append(out, v1alpha1.PlanData{What: v1alpha1.DataDatabase, Name: dump.Database, Effect: v1alpha1.DataDumped})
		}
		what, policy, isData := dataOf(s.Resource.Value)
		listed := slices.ContainsFunc(out, func(d v1alpha1.PlanData) bool { return d.What == what && d.Name == s.Resource.Name })
		if !isData || listed { // what is done to it first counts
			continue
		}
		d := v1alpha1.PlanData{What: what, Name: s.Resource.Name, Effect: v1alpha1.DataRetained}
		switch {
		case s.Verb == resource.Delete && policy == resource.DeleteData:
			d.Effect = v1alpha1.DataTrashed
		case s.Verb == resource.Put && r.left(s):
			d.Effect = v1alpha1.DataAdopted
		case s.Verb == resource.Put && s.Seen == nil:
			d.Effect = v1alpha1.DataCreated
		case s.Verb == resource.Put:
			d.Effect = v1alpha1.DataKept
		}
		out = append(out, d)
	}
	return append(out, r.kept(o, out)...)
}

// left reports whether an earlier object left the data that a step puts.
func (r reporter) left(s resource.Step) bool {
	if s.Seen != nil {
		return s.Seen.Owner == resource.RetainedOwner
	}
	_, claimed := r.claims.All[compile.DataKey(s.Resource.ID)]
	return claimed
}

// kept is the data that no step touches.
func (r reporter) kept(o compile.Compiled, touched []v1alpha1.PlanData) []v1alpha1.PlanData {
	var out []v1alpha1.PlanData
	for _, have := range r.had[o.Record.UID] {
		what, _, _ := dataOf(have.Value)
		if !slices.ContainsFunc(touched, func(d v1alpha1.PlanData) bool { return d.What == what && d.Name == have.Name }) {
			out = append(out, v1alpha1.PlanData{What: what, Name: have.Name, Effect: v1alpha1.DataKept})
		}
	}
	return out
}

func dataOf(v resource.Value) (what v1alpha1.DataKind, policy resource.DeletionPolicy, ok bool) {
	switch v := v.(type) {
	case resource.Volume:
		return v1alpha1.DataVolume, v.Policy, true
	case resource.Database:
		return v1alpha1.DataDatabase, v.Policy, true
	}
	return "", "", false
}

// Overlay returns facts in which documents take the place of those of the same
// kind and name, in the first source that has them or else in the first one. Of
// two of the same kind and name the last counts.
func Overlay(f Facts, c Config, objects []spec.Object) Facts {
	home := map[objectKey]string{}
	for _, s := range slices.Backward(c.Host.Sources) {
		for _, o := range f.Snapshots[s.Name].Objects {
			home[keyOf(o)] = s.Name
		}
	}
	last := map[objectKey]int{}
	for i, o := range objects {
		last[keyOf(o)] = i
	}
	added := map[string][]spec.Object{} // by source
	for i, o := range objects {
		if k := keyOf(o); last[k] == i {
			name := cmp.Or(home[k], c.Host.Sources[0].Name)
			added[name] = append(added[name], o)
		}
	}
	out := f.clone()
	for name, os := range added {
		snap := out.Snapshots[name]
		snap.Files = slices.Clone(snap.Files)
		snap.Objects = slices.DeleteFunc(slices.Clone(snap.Objects), func(o spec.Object) bool {
			_, replaced := last[keyOf(o)]
			return replaced && home[keyOf(o)] == name
		})
		for _, o := range os {
			snap.Objects, snap.Files = append(snap.Objects, o), append(snap.Files, o.Position.File)
		}
		out.Snapshots[name] = snap
	}
	return out
}
