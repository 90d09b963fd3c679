// Package simworld is a host in memory: every driver's managed system in one
// plain value, with the rules of the real ones that the engine relies on. It
// checks the invariants that must hold at every moment while steps are applied.
package simworld

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/resource"
)

// World is a simulated host.
type World struct {
	Things resource.Set // everything on the host but claims
	Claims map[string]resource.Claim
	// Trash lists data that was deleted under its policy.
	Trash []resource.Resource
	// Unknown kinds cannot be observed.
	Unknown map[resource.Kind]error
	// Images by the last word of the command: what is not named works.
	Images map[string]Image
	// Flakes by reference: what each builds to, "" for one whose build fails.
	Flakes map[string]string
	// Builds counts the attempts by flake.
	Builds map[string]int
	// Repositories by URL: the commit that each reference of one is at, "" for none.
	Repositories map[string]string
	// Texts of each file of a commit that somebody asks for; a commit that is not here has none.
	Texts map[string]string
	// Fetches counts the attempts by URL.
	Fetches map[string]int
	// Clones are the commits that volumes were made of.
	Clones map[resource.ID]string
	// Templates are the databases that others may be made as copies of.
	Templates map[string]bool
	// SetupFails by revision: the reason with which its setup fails.
	SetupFails map[string]string
	// SeedFails has the seed of every database fail.
	SeedFails bool
	// Seeds counts the databases' seeds that succeeded, by OID.
	Seeds map[uint32]int
	// Dumps counts how often a database was dumped before a revision.
	Dumps map[resource.ID]int
	// Setups counts the attempts by revision.
	Setups map[string]int
	// Foreign things are not ours: nobody may touch or observe them.
	Foreign   map[resource.ID]bool
	Now       time.Time
	Mutations int
	// Starts counts unit starts by machine, Made how often data was made anew.
	Starts   map[string]int
	Made     map[resource.ID]int
	services map[resource.Kind]service
	dirty    []write
	revision int64
	boots    int
}

// New returns an empty host.
func New(now time.Time) *World {
	return &World{
		Things: resource.Set{}, Claims: map[string]resource.Claim{}, Unknown: map[resource.Kind]error{},
		Images: map[string]Image{}, Foreign: map[resource.ID]bool{}, Starts: map[string]int{}, Made: map[resource.ID]int{},
		Flakes: map[string]string{}, Builds: map[string]int{}, Repositories: map[string]string{}, Texts: map[string]string{}, Fetches: map[string]int{}, Clones: map[resource.ID]string{}, Templates: map[string]bool{}, Seeds: map[uint32]int{}, Dumps: map[resource.ID]int{}, SetupFails: map[string]string{}, Setups: map[string]int{},
		services: map[resource.Kind]service{}, Now: now,
	}
}

// AllKinds in the order of resource's constants.
var AllKinds = []resource.Kind{
	resource.KindSysctl, resource.KindAddress, resource.KindTable, resource.KindPolicy, resource.KindCluster, resource.KindProxy, resource.KindResolver,
	resource.KindActivator, resource.KindClosure, resource.KindCheckout, resource.KindClaim, resource.KindPassword, resource.KindRole, resource.KindDatabase, resource.KindDump, resource.KindAccess, resource.KindVolume,
	resource.KindEndpoint, resource.KindException, resource.KindGCRoot, resource.KindInstance, resource.KindLink, resource.KindUnit, resource.KindAttachment,
	resource.KindSetup, resource.KindAnswer, resource.KindRecord, resource.KindRoute, resource.KindGate,
}

// Observe returns what the host has.
func (w *World) Observe() resource.Observed {
	o := make(resource.Observed, len(AllKinds))
	for _, k := range AllKinds {
		if err := w.Unknown[k]; err != nil {
			o[k] = resource.Unknown(err)
			continue
		}
		o[k] = resource.Known()
	}
	for id, r := range w.Things {
		if o[id.Kind].Err == nil {
			o[id.Kind].Items[id] = r
		}
	}
	if o[resource.KindClaim].Err == nil {
		for _, c := range w.Claims {
			r := resource.New(c.Owner, "", c.Key, c)
			o[resource.KindClaim].Items[r.ID] = r
		}
	}
	w.observeServices(o)
	return o
}

// Entries returns the ledger's claims, sorted.
func (w *World) Entries() []resource.Claim {
	var out []resource.Claim
	for _, k := range slices.Sorted(maps.Keys(w.Claims)) {
		out = append(out, w.Claims[k])
	}
	return out
}

// Apply takes one step. A violated invariant is an error of type *Violation.
func (w *World) Apply(s resource.Step) error {
	if err := w.check(s); err != nil {
		return err
	}
	w.Mutations++
	if s.Resource.Kind == resource.KindClaim {
		return w.claim(s)
	}
	if err := w.refuse(s); err != nil {
		return err
	}
	if err := w.serve(s); err != nil {
		return err
	}
	w.remember(s.Resource.ID)
	if s.Verb == resource.Put {
		return w.put(s)
	}
	return w.remove(s)
}

// Violation is an invariant that a step would have broken.
type Violation struct {
	Invariant string
	Step      resource.Step
	Why       string
}

func (v *Violation) Error() string {
	return fmt.Sprintf("%s violated by %s: %s", v.Invariant, v.Step, v.Why)
}

// claim is compare-and-set, as the ledger has it.
func (w *World) claim(s resource.Step) error {
	c := s.Resource.Value.(resource.Claim)
	old, exists := w.Claims[c.Key]
	if exists && old.Owner != c.Owner {
		return resource.Because("Claimed", fmt.Errorf("%s belongs to %s", c.Key, old.Owner))
	}
	if s.Verb == resource.Delete {
		if exists && c.Revision != 0 && c.Revision != old.Revision {
			return resource.ErrStale
		}
		delete(w.Claims, c.Key)
		return nil
	}
	c.Revision = 0
	if s.Seen != nil {
		c.Revision = s.Seen.Value.(resource.Claim).Revision
	}
	if exists && old.Equal(c) {
		return nil
	}
	if old.Revision != c.Revision {
		return resource.ErrStale
	}
	if c.Since = old.Since; !exists {
		c.Since = w.Now
	}
	w.revision++
	c.Revision = w.revision
	w.Claims[c.Key] = c
	return nil
}

func (w *World) put(s resource.Step) error {
	r := s.Resource
	switch v := r.Value.(type) {
	case resource.Unit:
		return w.start(s, v)
	case resource.Volume:
		w.making(r.ID)
		if v.Clone.Commit != "" {
			w.Clones[r.ID] = v.Clone.Commit
		}
		v.Clone = resource.Clone{} // not observed
		r.Value = v
	case resource.Database:
		return w.putDatabase(r, v)
	case resource.Dump:
		if !w.ownsDatabase(r.Owner, v.Database) {
			return resource.ErrStale
		}
		if made, there := w.Things[r.ID]; there && made.Value.Equal(v) {
			return nil
		}
		w.Dumps[r.ID]++
		if v.MadeAt = w.Now; v.MadeAt.Before(v.After) {
			v.MadeAt = v.After
		}
		v.After = time.Time{}
		r.Value = v
	case resource.Setup:
		return w.beginSetup(r, v)
	case resource.Worked:
		return w.begin(s, v)
	case resource.Attachment:
		if u, ok := w.unit(r.Instance); !ok || !u.Running {
			return errors.New("no such machine to attach to")
		}
	case resource.Answer:
		return w.answer(r, v)
	case resource.Gate:
		r.Value = w.gate(r, v)
	case resource.Route:
		if old, ok := w.Things[r.ID].Value.(resource.Route); ok && old.Backend == v.Backend {
			v.MovedAt = old.MovedAt
		} else {
			v.MovedAt = w.Now
		}
		r.Value = v
	}
	w.Things[r.ID] = r
	return nil
}

// making counts data that is made anew.
func (w *World) making(id resource.ID) {
	if _, there := w.Things[id]; !there {
		w.Made[id]++
	}
}

func (w *World) start(s resource.Step, u resource.Unit) error {
	r := s.Resource
	old, there := w.unit(r.Name)
	switch {
	case there && old.Running && old.Generation < u.Generation, there && !old.Running && s.Seen == nil:
		return resource.ErrStale
	case there && old.Running && old.Fingerprint == u.Fingerprint:
		return nil
	}
	if there && old.Running { // updated in place, by a start of its own
		w.dropLink(r.Instance)
	}
	u.Failures = old.Failures
	w.boots++
	w.Starts[r.Name]++
	u.Boot, u.Leader, u.StartedAt = fmt.Sprintf("boot-%d", w.boots), 1000+w.boots, w.Now
	r.Value = u
	if w.image(r.Name) == Crashes {
		r.Value = ended(u, w.Now, 1)
	}
	w.Things[r.ID] = r
	return nil
}

func (w *World) answer(r resource.Resource, a resource.Answer) error {
	u, there := w.unit(r.Name)
	switch {
	case !there || u.Boot != a.Boot:
		return resource.ErrStale
	case !u.Running:
		return resource.Because(resource.ReasonProbeFailed, errors.New("it ended before it answered"))
	case w.image(r.Name) == Mute:
		return resource.Because(resource.ReasonProbeFailed, errors.New("connection refused"))
	}
	w.Things[r.ID] = r
	return nil
}

// image is what the machine's userland does.
func (w *World) image(machine string) Image {
	r, ok := w.Things[resource.ID{Kind: resource.KindInstance, Name: machine}]
	if !ok {
		return Works
	}
	i := r.Value.(resource.Instance)
	if len(i.Command) == 0 {
		return w.Images[path.Base(i.System.StorePath)]
	}
	return w.Images[i.Command[len(i.Command)-1]]
}

func (w *World) unit(machine string) (resource.Unit, bool) {
	r, ok := w.Things[resource.ID{Kind: resource.KindUnit, Name: machine}]
	if !ok {
		return resource.Unit{}, false
	}
	return r.Value.(resource.Unit), true
}

// Kill ends a machine by itself; its link goes with its network namespace.
func (w *World) Kill(machine string, code int) {
	id := resource.ID{Kind: resource.KindUnit, Name: machine}
	r, ok := w.Things[id]
	if !ok {
		return
	}
	u := r.Value.(resource.Unit)
	if !u.Running {
		return
	}
	w.remember(id)
	r.Value = ended(u, w.Now, code)
	w.Things[id] = r
	w.dropLink(r.Instance)
}

func (w *World) dropLink(machine string) {
	w.interruptSetups(func(r resource.Resource) bool { return r.Instance == machine }, "MachineEnded")
	for id, r := range w.Things {
		if r.Instance == machine && (id.Kind == resource.KindAttachment || id.Kind == resource.KindLink) {
			delete(w.Things, id)
		}
	}
}

func (w *World) remove(s resource.Step) error {
	r := s.Resource
	switch v := r.Value.(type) {
	case resource.Unit:
		w.dropLink(r.Instance)
	case resource.Attachment:
		w.dropLink(r.Instance)
		return nil
	case resource.Volume:
		return w.removeData(r, v.Policy)
	case resource.Database:
		return w.removeData(r, v.Policy)
	case resource.Role:
		if d, ok := w.Things[resource.ID{Kind: resource.KindDatabase, Name: r.Name}]; ok && d.Owner == resource.RetainedOwner {
			r.Owner = resource.RetainedOwner
			w.Things[r.ID] = r
			return nil
		}
	case resource.Instance:
		delete(w.Things, resource.ID{Kind: resource.KindUnit, Name: r.Name})
		delete(w.Things, resource.ID{Kind: resource.KindAnswer, Name: r.Name})
	}
	delete(w.Things, r.ID)
	return nil
}

func (w *World) removeData(r resource.Resource, policy resource.DeletionPolicy) error {
	if policy == resource.DeleteData {
		w.Trash = append(w.Trash, r)
		delete(w.Things, r.ID)
		return nil
	}
	r.Owner = resource.RetainedOwner
	w.Things[r.ID] = r
	return nil
}

// Snapshot is the host as text, for comparisons of end states. What differs
// between equal runs (boots, process ids, times) is left out.
func (w *World) Snapshot() string {
	var b strings.Builder
	for _, r := range w.Things.Sorted() {
		if r.Kind == resource.KindDump {
			r.Owner = "" // it outlives that
		}
		fmt.Fprintf(&b, "%s owner=%s instance=%s", r.ID, r.Owner, r.Instance)
		if u, ok := r.Value.(resource.Unit); ok {
			fmt.Fprintf(&b, " running=%v", u.Running)
		}
		b.WriteByte('\n')
	}
	for _, k := range slices.Sorted(maps.Keys(w.Claims)) {
		fmt.Fprintf(&b, "claim %s owner=%s\n", k, w.Claims[k].Owner)
	}
	for _, r := range resource.NewSet(w.Trash...).Sorted() {
		fmt.Fprintf(&b, "trash %s\n", r.ID)
	}
	return b.String()
}

// has reports whether the host has a thing of a kind for which f holds.
func (w *World) has(k resource.Kind, f func(resource.Resource) bool) bool {
	for id, r := range w.Things {
		if id.Kind == k && f(r) {
			return true
		}
	}
	return false
}

// backendAnswers reports whether an instance at addr has answered ever.
func (w *World) backendAnswers(addr netip.Addr) bool {
	return w.has(resource.KindAnswer, func(r resource.Resource) bool { return r.Value.(resource.Answer).Addr == addr })
}
