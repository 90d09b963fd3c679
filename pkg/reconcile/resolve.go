package reconcile

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/absence"
	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/spec"
)

// Problem is one thing wrong with a source's files.
type Problem struct {
	Source string
	spec.Problem
}

// releasePrefix of claims that let a held deletion happen: release/SOURCE/UID.
const releasePrefix = "release/"

// ReleaseKey is the ledger's key of a released deletion.
func ReleaseKey(sourceName, uid string) string { return releasePrefix + sourceName + "/" + uid }

// wanted is what the sources and the ledger say together.
type wanted struct {
	objects  []compile.Object
	rejected []v1alpha1.Item // documents that became no object
	problems []Problem
	sources  []v1alpha1.SourceStatus
	missing  absence.State
	nextWake time.Time
	reread   []string
}

// problemsOf are the problems that concern an object.
func (w wanted) problemsOf(r compile.ObjectRecord) []Problem {
	var out []Problem
	for _, p := range w.problems {
		if p.Reason == spec.ReasonDuplicateName && p.File != r.File {
			continue // that is the other document's problem
		}
		if p.Source == r.Source && p.Name == r.Name && (p.Kind == "" || p.Kind == r.Kind) || (p.Name == "" && p.Source == r.Source && p.File == r.File) {
			out = append(out, p)
		}
	}
	return out
}

func joinProblems(ps []Problem) string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "; ")
}

// resolve brings what the sources want and what the ledger knows together:
// which objects are wanted, held, gone or new, and under which UID.
func (c *Core) resolve(f Facts, claims compile.Claims) wanted {
	w := wanted{}
	known := c.known(claims)
	sources := c.sourceList()
	judged := absence.Judge(absence.Input{
		Now: f.Now, Sources: sources, Snapshots: f.Snapshots, Known: known, Releases: releases(claims), State: c.missing,
	})
	w.missing, w.nextWake, w.reread = judged.State, judged.NextWake, judged.Reread
	winners, duplicates := absence.Resolve(sources, f.Snapshots, known)
	w.objects = make([]compile.Object, 0, max(len(known), len(winners))+len(claims.Tombstones))
	r := &round{wanted: &w, facts: f, claims: claims, verdicts: judged.Verdicts, known: known, taken: make(map[string]bool, len(known)), count: map[string]int{}}
	r.reckon()
	for _, uid := range slices.Sorted(maps.Keys(claims.Tombstones)) {
		t := claims.Tombstones[uid]
		w.objects = append(w.objects, compile.Object{Record: t.ObjectRecord, Verdict: compile.Gone, Why: t.Why, Spec: c.decode(t.ObjectRecord)})
	}
	// What others take from comes first.
	c.given, c.nextGiven = c.nextGiven, map[givenKey]given{}
	wishes := wishesOf(winners)
	c.enter(r, wishes, nil, false)
	rs := repositoriesOf(w.objects)
	c.complete(wishes, rs)
	c.collectProblems(&w, f, duplicates, incomplete(wishes))
	c.enter(r, wishes, rs, true)
	c.sourceStatus(&w, f, judged, claims)
	return w
}

func (c *Core) sourceList() []absence.Source {
	out := make([]absence.Source, len(c.Host.Sources))
	for i, s := range c.Host.Sources {
		out[i] = absence.Source{Name: s.Name}
		if s.Git != nil {
			out[i].Percent = absence.GitPercent
		}
	}
	return out
}

// known are the objects of the ledger that are not being deleted, by name.
func (c *Core) known(claims compile.Claims) []absence.Known {
	out := make([]absence.Known, 0, len(claims.ByUID))
	for uid, r := range claims.ByUID {
		if _, dead := claims.Tombstones[uid]; dead {
			continue
		}
		out = append(out, absence.Known{UID: uid, Kind: r.Kind, Name: r.Name, Source: r.Source, File: r.File, Data: compile.TakesData(c.decode(r))})
	}
	slices.SortFunc(out, func(a, b absence.Known) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func releases(claims compile.Claims) map[string]map[string]bool {
	out := map[string]map[string]bool{}
	for key := range claims.All {
		rest, ok := strings.CutPrefix(key, releasePrefix)
		if !ok {
			continue
		}
		name, uid, _ := strings.Cut(rest, "/")
		if out[name] == nil {
			out[name] = map[string]bool{}
		}
		out[name][uid] = true
	}
	return out
}

// decode restores the last good spec of a record; nil when this version does
// not know its kind.
func (c *Core) decode(r compile.ObjectRecord) v1alpha1.Object {
	if o, found := c.specs[r.Digest]; found && r.Digest != "" {
		return o
	}
	o, err := c.Decode(r.Kind, r.Object)
	if err != nil {
		return nil
	}
	c.specs[r.Digest] = o
	return o
}

// objectKey of the winners: kind and name.
type objectKey struct{ kind, name string }

func keyOf(o v1alpha1.Object) objectKey { return objectKey{o.Type().Kind, o.Meta().Name} }

func (c *Core) knownObject(r compile.ObjectRecord, instances []compile.InstanceRecord, v absence.Verdict, wishes map[objectKey]wish, rs repositories) compile.Object {
	held := v.Message
	switch v.Decision {
	case absence.Present:
		w, found := wishes[objectKey{r.Kind, r.Name}]
		held = cmp.Or(held, w.why)
		if found && w.Source == r.Source && w.why == "" {
			next := c.nextRecord(r, w)
			refused, noWayBack := c.refusedOf(next, instances)
			return compile.Object{Record: next, Verdict: compile.Wanted, Spec: w.Object.Object, Refused: refused, NoWayBack: noWayBack}
		}
	case absence.Absent:
		return compile.Object{Record: r, Verdict: compile.Gone, Why: v.Message, Spec: c.decode(r)}
	}
	last := c.decode(r)
	if why := cmp.Or(c.refused(r, last), rs.refusing(last)); why != "" {
		return compile.Object{Record: r, Verdict: compile.Refused, Why: why, Spec: last}
	}
	r, last = c.follow(r, last, rs)
	refused, noWayBack := c.refusedOf(r, instances)
	return compile.Object{Record: r, Verdict: compile.Held, Why: held, Spec: last, Refused: refused, NoWayBack: noWayBack}
}

// refusedOf are the incarnations of former specs that the source may not have
// any more, and whether what a container was before an update in place is such a one.
func (c *Core) refusedOf(r compile.ObjectRecord, instances []compile.InstanceRecord) (ordinals []int, noWayBack bool) {
	if c.allow(r.Source) == nil {
		return nil, false
	}
	refused := func(object json.RawMessage) bool {
		if string(object) == string(r.Object) {
			return false
		}
		former, err := c.Decode(r.Kind, object)
		return err == nil && c.refused(r, former) != ""
	}
	for _, i := range instances {
		if refused(i.Object) {
			ordinals = append(ordinals, i.Ordinal)
		}
		noWayBack = noWayBack || i.Previous != nil && refused(i.Previous.Object)
	}
	return ordinals, noWayBack
}

// refused says why the last good spec of a record may not stay: its source was
// narrowed since it was admitted.
func (c *Core) refused(r compile.ObjectRecord, last v1alpha1.Object) string {
	if last == nil {
		return ""
	}
	o := spec.Object{Object: last, Position: spec.Position{File: r.File, Line: r.Line}}
	var whys []string
	for _, p := range spec.Admit(o, c.allow(r.Source)) {
		whys = append(whys, p.Error())
	}
	if len(whys) == 0 {
		return ""
	}
	return strings.Join(whys, "; ") + "; it was admitted before, is stopped now and keeps its data; let it ask for less, or widen allow in the Host"
}

// allow is the admission of a source, nil where there is none.
func (c *Core) allow(sourceName string) *v1alpha1.Admission {
	for _, s := range c.Host.Sources {
		if s.Name == sourceName {
			return s.Allow
		}
	}
	return nil
}

// nextRecord is the record of a known object whose document was read: a new
// generation when its content differs, a new place when only its file does.
func (c *Core) nextRecord(r compile.ObjectRecord, w wish) compile.ObjectRecord {
	r.File, r.Line, r.Document = w.Position.File, w.Position.Line, w.document
	if w.Digest != r.Digest {
		r.Generation++
		r.Digest = w.Digest
		r.Object = marshal(w.Object.Object)
	}
	c.specs[r.Digest] = w.Object.Object
	return r
}

func marshal(o v1alpha1.Object) json.RawMessage {
	// API types are plain structs: marshalling cannot fail.
	raw, _ := json.Marshal(o)
	return raw
}

// collectProblems gathers what is wrong, and shows refused documents that
// belong to no known object as rejected items.
func (c *Core) collectProblems(w *wanted, f Facts, duplicates []absence.Duplicate, incomplete []Problem) {
	for _, name := range slices.Sorted(maps.Keys(f.Snapshots)) {
		for _, p := range f.Snapshots[name].Problems {
			w.problems = append(w.problems, Problem{name, p})
		}
	}
	for _, d := range duplicates {
		w.problems = append(w.problems, Problem{d.Source, d.Problem})
	}
	w.problems = append(w.problems, incomplete...)
	seen := map[objectKey][]Problem{}
	for _, p := range w.problems {
		if p.Name != "" && p.Kind != "" {
			k := objectKey{p.Kind, p.Name}
			seen[k] = append(seen[k], p)
		}
	}
	for k, ps := range seen {
		at := v1alpha1.SourcePosition{Name: ps[0].Source, File: ps[0].File, Line: ps[0].Line}
		w.rejected = append(w.rejected, rejectedItem(k, at, v1alpha1.PhaseRejected, ps[0].Reason, joinProblems(ps)))
	}
}

// dropShown removes rejected items whose object is shown anyway: its last good
// spec stays, and its SpecValid condition tells the problem.
func (w *wanted) dropShown() {
	if len(w.rejected) == 0 {
		return
	}
	shown := map[objectKey]bool{}
	for _, o := range w.objects {
		shown[objectKey{o.Record.Kind, o.Record.Name}] = true
	}
	w.rejected = slices.DeleteFunc(w.rejected, func(i v1alpha1.Item) bool { return shown[objectKey{i.Kind, i.Metadata.Name}] })
}

// sourceStatus says how each source is, and what it holds.
func (c *Core) sourceStatus(w *wanted, f Facts, judged absence.Output, claims compile.Claims) {
	w.dropShown()
	for _, s := range c.Host.Sources {
		st := v1alpha1.SourceStatus{Name: s.Name, Path: s.Path}
		if s.Git != nil {
			st.Path = s.Git.Path
		}
		if snap, read := f.Snapshots[s.Name]; read {
			st.Revision, st.Complete, st.Unsettled, st.Objects = snap.Revision, snap.Complete, snap.Unsettled, len(snap.Objects)
			if snap.Err != nil {
				st.Message = snap.Err.Error()
			}
			if snap.RetryAfter > 0 {
				w.nextWake = earliest(w.nextWake, snap.ReadAt.Add(snap.RetryAfter))
				w.reread = append(w.reread, s.Name)
			}
		}
		if h, held := judged.Holds[s.Name]; held {
			st.Message = h.Message
			for _, uid := range h.UIDs {
				st.Held = append(st.Held, v1alpha1.Ref{Kind: claims.ByUID[uid].Kind, Name: claims.ByUID[uid].Name})
			}
			slices.SortFunc(st.Held, func(a, b v1alpha1.Ref) int { return cmp.Compare(a.Name, b.Name) })
		}
		w.sources = append(w.sources, st)
	}
}
