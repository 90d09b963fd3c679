package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/plan"
	"tekton.host/pkg/resource"
)

// The invariants of docs/architecture.md, by name. simworld asserts I3, I4, I5
// and I6 before each step; the others are asserted here.

// outcome is the end of a run, as far as it must not depend on faults.
type outcome struct {
	host   string              // the host, the ledger and the trash
	status map[string]string   // by object
	starts map[string]int      // by machine
	steps  map[string][]string // by object, sorted: faults elsewhere may change the order
	// racy is host and status where something was changed in the middle of another
	// change: how often a machine was replaced, and whether there was data to be
	// trashed already, depends on how far that had come. Each machine's numbers must
	// be the same all over.
	racy string
}

func (s *sim) outcome() outcome {
	o := outcome{host: s.normalize(), status: map[string]string{}, starts: maps.Clone(s.world.Starts), steps: map[string][]string{}}
	for _, i := range s.last.Items {
		text := string(i.Status.Phase) + " " + i.Status.Machine
		for _, c := range i.Status.Conditions {
			text += fmt.Sprintf("; %s=%s %s", c.Type, c.Status, c.Reason)
		}
		o.status[i.Metadata.Name] = text
	}
	names := s.ownerNames()
	for _, e := range s.events {
		if name := names[e.step.Resource.Owner]; name != "" {
			o.steps[name] = append(o.steps[name], strings.ReplaceAll(e.step.String(), e.step.Resource.Owner, "UID"))
		}
	}
	for _, steps := range o.steps {
		slices.Sort(steps)
	}
	o.racy = s.unnumbered(o)
	return o
}

// ownerNames are the objects' names by UID, also of those that are gone.
func (s *sim) ownerNames() map[string]string {
	out := map[string]string{}
	for _, e := range s.events {
		c, isClaim := e.step.Resource.Value.(resource.Claim)
		var r compile.ObjectRecord
		if isClaim && strings.HasPrefix(c.Key, "object/") && json.Unmarshal(c.Value, &r) == nil {
			out[r.UID] = r.Name
		}
	}
	return out
}

// normalize is the end state without what may differ after a fault: UIDs hash
// the time of their making, so each is replaced by its object's name.
func (s *sim) normalize() string {
	out := s.world.Snapshot()
	for _, i := range s.last.Items {
		if i.Metadata.UID != "" {
			out = strings.ReplaceAll(out, i.Metadata.UID, "UID-of-"+i.Metadata.Name)
		}
	}
	lines := strings.Split(out, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// keptData asserts I6 at the end: data that was ever made is there or in the trash.
func (s *sim) keptData() {
	s.t.Helper()
	left := map[resource.ID]int{}
	for _, r := range s.world.Trash {
		left[r.ID]++
	}
	for oid, n := range s.world.Seeds {
		if n != 1 {
			s.t.Fatalf("database %d was seeded %d times; history:\n%s", oid, n, s.history())
		}
	}
	for id, n := range s.world.Dumps {
		if n != 1 {
			s.t.Fatalf("%s was made %d times; history:\n%s", id, n, s.history())
		}
	}
	for id, made := range s.world.Made {
		if _, there := s.world.Things[id]; there {
			left[id]++
		}
		if left[id] != made {
			s.t.Fatalf("I6 no lost data: %s was made %d times, %d are left; history:\n%s", id, made, left[id], s.history())
		}
	}
}

// unnumbered is host and status with each machine's ordinal, slot and address
// replaced by its object, and without the trash (see keptData).
func (s *sim) unnumbered(o outcome) string {
	lines := slices.DeleteFunc(strings.Split(o.host, "\n"), func(l string) bool { return l == "" || strings.HasPrefix(l, "trash ") })
	for _, name := range slices.Sorted(maps.Keys(o.status)) {
		lines = append(lines, name+" is "+o.status[name])
	}
	text := strings.Join(lines, "\n")
	for id, r := range s.world.Things {
		i, ok := r.Value.(resource.Instance)
		if !ok {
			continue
		}
		ours := fmt.Sprintf(`\b(%s|tk%d|slot/%d|%s|instance/UID-of-%s/%d)\b`, id.Name, i.Slot, i.Slot, regexp.QuoteMeta(i.Addr.String()), i.Hostname, i.Ordinal)
		text = regexp.MustCompile(ours).ReplaceAllString(text, "("+i.Hostname+")")
	}
	lines = strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// numbers are ordinals, slots and addresses.
var numbers = regexp.MustCompile(`(-|tk|slot/|\d\.|instance/[^ ]*/)\d+\b`)

// loose leaves out numbers.
func loose(lines []string) string {
	var out []string
	for _, l := range lines {
		out = append(out, numbers.ReplaceAllString(l, "${1}N"))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// converged asserts I1: the end state is that of the run without faults.
func (s *sim) converged(want outcome, racy bool) {
	s.t.Helper()
	got := s.outcome()
	if racy {
		if got.racy != want.racy {
			s.t.Fatalf("I1 converge (-want +got):\n%s\nhistory:\n%s", cmp.Diff(want.racy, got.racy), s.history())
		}
		return
	}
	if got.host != want.host {
		s.t.Fatalf("I1 converge (-want +got):\n%s\nhistory:\n%s", cmp.Diff(want.host, got.host), s.history())
	}
	if !maps.Equal(got.status, want.status) {
		s.t.Fatalf("I1 converge, status (-want +got):\n%s\nhistory:\n%s", cmp.Diff(want.status, got.status), s.history())
	}
}

// quiet asserts I2: a converged host gets no mutating call.
func (s *sim) quiet() {
	s.t.Helper()
	before := s.world.Mutations
	s.settle()
	if n := s.world.Mutations - before; n != 0 {
		s.t.Fatalf("I2 quiet: %d mutating calls on a converged host:\n%s", n, s.history())
	}
}

// unique asserts I4 over all that is there in the end.
func (s *sim) unique() {
	s.t.Helper()
	taken := map[string]string{}
	claim := func(owner, format string, args ...any) {
		what := fmt.Sprintf(format, args...)
		if other, found := taken[what]; found && other != owner {
			s.t.Fatalf("I4 unique: %s belongs to %s and %s; history:\n%s", what, other, owner, s.history())
		}
		taken[what] = owner
	}
	for id, r := range s.world.Things {
		switch v := r.Value.(type) {
		case resource.Instance:
			claim(r.Name, "slot %d", v.Slot)
			claim(r.Name, "address %s", v.Addr)
			claim(r.Name, "uid range %d", v.UIDBase)
			claim(r.Owner, "hostname %s", v.Hostname)
		case resource.Link:
			claim(r.Instance, "address %s", v.Addr)
			claim(r.Instance, "interface %s", v.Name)
		case resource.Access:
			claim(r.Owner, "database %s", v.Database)
		case resource.Database:
			if r.Owner != resource.RetainedOwner {
				claim(r.Owner, "database %s", id.Name)
			}
		}
	}
}

// independent asserts I7 for the second object: the fault changed nothing of what
// was done for it nor, as explained asserts in each pass, of what is said of any
// object that it does not concern.
func (s *sim) independent(want outcome) {
	s.t.Helper()
	got, uid := s.outcome(), ""
	for owner, name := range s.ownerNames() {
		if name == "z" {
			uid = owner
		}
	}
	usesData := strings.Contains(strings.Join(want.steps["z"], " "), " database/")
	if uid == "" || s.concerns(uid, usesData, false) {
		return
	}
	// Slots: those of an object that has a fault may go to another.
	if d := cmp.Diff(loose(want.steps["z"]), loose(got.steps["z"])); d != "" {
		s.t.Fatalf("I7 independence: the fault of %s changed the steps of z (-want +got):\n%s\nhistory:\n%s", s.hit, d, s.history())
	}
}

// concerns reports whether an object may notice the fault: it is that of a step
// of its own, of a claim in the same commit, or of what it stands on. On the
// table, the address and the settings all machines stand, and all here have routes.
func (s *sim) concerns(uid string, usesData, maySleep bool) bool {
	return slices.ContainsFunc(s.hits, func(r resource.Resource) bool {
		if r.Owner != resource.HostOwner {
			return r.Owner == uid
		}
		switch r.Kind {
		case resource.KindClaim, resource.KindResolver:
			return false
		case resource.KindActivator:
			return maySleep
		case resource.KindCluster:
			return usesData
		}
		return true
	})
}

// undisturbed asserts I8: a fault of the daemon starts no machine again.
func (s *sim) undisturbed(want outcome) {
	s.t.Helper()
	if d := cmp.Diff(want.starts, s.world.Starts); d != "" {
		s.t.Fatalf("I8 daemon death is invisible: machines were started (-want +got):\n%s\nhistory:\n%s", d, s.history())
	}
}

// waitsForSomebody are the reasons for which only a person or another object
// can do something; their messages say what.
var waitsForSomebody = map[string]bool{
	// Caddy asks the authority again by itself, and its storage is watched.
	"CertificatePending": true, "CertificateRefused": true, "CertificateExpired": true,
	"SecretMissing": true, "DataConflict": true, "DependencyCycle": true, "RouteConflict": true, "PortConflict": true, "NoFreeSlot": true,
	"LinkTargetMissing": true, "WaitingForDependency": true, "Completed": true, "Expired": true, "Disabled": true, "ParseError": true,
	"DuplicateName": true, "LedgerDamaged": true, "NameTaken": true, "SourcePolicy": true, "SecretsUnreadable": true, "RepositoryMissing": true,
	"ConfigInvalid": true,
}

// explained asserts I9 in each pass: what is not Ready says why, since when and
// what happens next.
func (s *sim) explained(r Result) {
	s.t.Helper()
	local := len(s.hits) > 0 && s.fault.local() && s.second == noFault && !s.two
	goesOn := len(r.Plan.Steps) > 0 || len(s.flying) > 0 || !r.NextWake.IsZero() || s.looksAgain() || s.world.Working() || s.world.SettingUp()
	for _, i := range r.Items {
		if i.Status.Phase == v1alpha1.PhaseReady {
			continue
		}
		spec, _ := i.Spec.(*v1alpha1.ContainerSpec)
		_, preview := i.Spec.(*v1alpha1.PreviewSpec) // whose application has a database
		usesData := preview || spec != nil && len(spec.Databases) > 0
		maySleep := spec != nil && spec.SleepAfter != nil
		if local && !s.concerns(i.Metadata.UID, usesData, maySleep) && strings.Contains(fmt.Sprint(i.Status.Conditions), "injected") {
			s.t.Fatalf("I7 independence: the fault of %s is said of %s: %+v", s.hit, i.Metadata.Name, i.Status.Conditions)
		}
		var ready *v1alpha1.Condition
		for j, c := range i.Status.Conditions {
			if c.Type == v1alpha1.ConditionReady {
				ready = &i.Status.Conditions[j]
			}
		}
		switch {
		case ready == nil:
			s.t.Fatalf("I9 explained: %s is %s and has no Ready condition", i.Metadata.Name, i.Status.Phase)
		case ready.LastTransitionTime.IsZero():
			s.t.Fatalf("I9 explained: %s is %s, but not since when: %+v", i.Metadata.Name, i.Status.Phase, ready)
		case i.Status.Phase == v1alpha1.PhasePaused: // somebody asked for it
		case ready.Status == v1alpha1.ConditionTrue: // Degraded: served, but not as wanted
			if !slices.ContainsFunc(i.Status.Conditions, func(c v1alpha1.Condition) bool { return c.Type != v1alpha1.ConditionReady && c.Message != "" }) {
				s.t.Fatalf("I9 explained: %s is %s without a reason: %+v", i.Metadata.Name, i.Status.Phase, i.Status.Conditions)
			}
		case ready.Reason == "" || ready.Message == "":
			s.t.Fatalf("I9 explained: %s is %s, but not why: %+v\nhistory:\n%s", i.Metadata.Name, i.Status.Phase, i.Status.Conditions, s.history())
		case ready.NextRetry.IsZero() && !goesOn && !waitsForSomebody[ready.Reason]:
			s.t.Fatalf("I9 explained: %s is %s, but not what happens next: %+v\nblocked: %v\nhistory:\n%s", i.Metadata.Name, i.Status.Phase, ready, r.Plan.Blocked, s.history())
		}
	}
}

// looksAgain reports whether the engine reads everything anew soon: while
// something cannot be observed (retryUnknown), or the source has said so.
func (s *sim) looksAgain() bool {
	for _, d := range s.world.Observe() {
		if d.Err != nil {
			return true
		}
	}
	return false
}

// secretFree asserts I10: no value of a secret is in what is shown or planned.
func (s *sim) secretFree() {
	s.t.Helper()
	if len(s.secrets) == 0 {
		return
	}
	// Specs are marshalled as the API shows them.
	items, _ := json.Marshal(s.last.Items)
	report, err := Report(context.Background(), s.conf, s.facts())
	if err != nil {
		s.t.Fatalf("report: %v\nhistory:\n%s", err, s.history())
	}
	planned, _ := json.Marshal(report)
	shown := string(items) + string(planned) + fmt.Sprintf("%+v %+v", s.last.Plan, s.world.Claims)
	for name, value := range s.secrets {
		if strings.Contains(shown, value) {
			s.t.Fatalf("I10 no secret: the value of %s is in status, plan or ledger", name)
		}
	}
}

// removals are the deletes of a plan: what stops, restarts or takes away. A
// slot that is freed counts, too.
func removals(p plan.Plan) map[string]bool {
	out := map[string]bool{}
	for _, s := range p.Steps {
		c, isClaim := s.Resource.Value.(resource.Claim)
		frees := isClaim && strings.HasPrefix(c.Key, "slot/") && strings.Contains(string(c.Value), `"freed"`)
		if s.Verb == resource.Delete || frees {
			out[s.Resource.ID.String()] = true
		}
	}
	return out
}

func (s *sim) item(name string) v1alpha1.Item {
	s.t.Helper()
	for _, i := range s.last.Items {
		if i.Metadata.Name == name {
			return i
		}
	}
	s.t.Fatalf("no item %q in %v; history:\n%s", name, s.last.Items, s.history())
	return v1alpha1.Item{}
}

func (s *sim) wantPhase(name string, phase v1alpha1.Phase) {
	s.t.Helper()
	if i := s.item(name); i.Status.Phase != phase {
		s.t.Fatalf("%s is %s, want %s; conditions: %+v\nhistory:\n%s", name, i.Status.Phase, phase, i.Status.Conditions, s.history())
	}
}
