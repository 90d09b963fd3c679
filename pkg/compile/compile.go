package compile

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

// Verdict says what is wanted of a known object.
type Verdict string

const (
	Wanted Verdict = "Wanted" // its spec was read
	Held   Verdict = "Held"   // its last good spec stays
	Gone   Verdict = "Gone"   // its deletion was asked for
	// Refused: its last good spec asks for what its source may not have any more.
	// It is stopped like a disabled one, and its data stays.
	Refused Verdict = "Refused"
)

// Object is one object to compile.
type Object struct {
	// Record is that of the ledger, or, for a new object, the one to claim.
	Record  ObjectRecord
	Verdict Verdict
	// Why of every verdict but Wanted.
	Why string
	// Spec decoded: the wanted one, or the last good one of the record.
	Spec v1alpha1.Object
	// Refused are the ordinals of incarnations that were made for a spec which the
	// source may not have any more: they do not run, not even after a rollback.
	Refused []int
	// NoWayBack: what a container was before its update in place is such a spec.
	NoWayBack bool
}

// Input is all that compile knows.
type Input struct {
	Host         v1alpha1.HostSpec // defaulted
	Layout       host.Layout
	Naming       resource.Naming
	Installation string
	// NixOS says that the host's own userland lies in the Nix store.
	NixOS   bool
	Now     time.Time
	Objects []Object
	// Unread says that a source was not read whole: there may be objects that
	// nobody knows of yet.
	Unread   bool
	Claims   Claims
	Observed resource.Observed
	// Secrets is the keyed digest of each secret; SecretsErr says why they could not be read.
	Secrets    map[string]string
	SecretsErr error
	// HostKey is the public half of the ssh host key of a name.
	HostKey func(name string) string
	// Failures of steps, by resource.
	Failures map[resource.ID]resource.Failure
}

// Note is a negative condition that compile found, or a fact worth a condition.
type Note struct {
	Type    string // condition type
	Status  v1alpha1.ConditionStatus
	Reason  string
	Message string
	// NextRetry is when it is tried again; zero: when something changes.
	NextRetry time.Time
}

// Compiled is what compile made of one object.
type Compiled struct {
	Record ObjectRecord
	Spec   *v1alpha1.ContainerSpec
	Meta   v1alpha1.ObjectMeta
	// Declared is the spec as the document has it; Spec is what it asks of its machine.
	Declared any
	// Verdict and Why are those of the input.
	Verdict Verdict
	Why     string
	Notes   []Note
	// Target is the incarnation that is to run; Serving the one that routes point to.
	Target, Serving *Incarnation
	// Former is the incarnation that a replacement will remove.
	Former *Incarnation
	URLs   []string
	// HostKey is the public half of the machine's ssh host key.
	HostKey string
	// Closure is the name of the flake's, and Build how that goes.
	Closure string
	Build   resource.Build
	// ExpiresAt is when its ttl is over; zero: never. Expired: it is, and the object
	// is stopped until it goes.
	ExpiresAt time.Time
	Expired   bool
	// Asleep says that nobody asks for it, since AsleepSince: its machine is stopped.
	// Waking: it is not asleep any more, and does not answer yet.
	Asleep, Waking bool
	AsleepSince    time.Time
	// Fetches says that a repository is wanted.
	Fetches bool
	// Unused are databases that a preview had for an earlier commit and keeps.
	Unused []v1alpha1.Database
	// Setup of the target's machine, and whether that was set up in its present
	// start: then a later one that fails leaves what runs as it is.
	Setup resource.Setup
	SetUp bool
	// Update names the strategy of a replacement under way or due: Overlap, Recreate, "".
	Update string
}

// RunsNoMachine reports whether all that there is of the object is its entry in
// the ledger.
func (o Compiled) RunsNoMachine() bool {
	return o.Declared != nil && !v1alpha1.RunsMachine(o.Record.Kind)
}

// Incarnation is one instance with the names that follow from its slot.
type Incarnation struct {
	InstanceRecord
	Machine string
	Link    string
}

// Output is what compile yields.
type Output struct {
	Desired resource.Desired
	Objects []Compiled // sorted by name
	// Unclaimed are the machines whose claims the ledger has lost, sorted.
	Unclaimed []string
	NextWake  time.Time // zero: no timer needed
}

// Compile derives what is to be on the host.
func Compile(in Input) Output {
	c := &compiler{
		Input: in,
		out: Output{Desired: resource.Desired{
			Present: make(resource.Set, in.Observed.Len()), Complete: make(map[string]bool, len(in.Objects)), Held: map[resource.ID]bool{},
			Policies: map[resource.ID]resource.DeletionPolicy{}, Exclusive: map[resource.ID]bool{},
		}},
		targets: map[string]*unitOf{}, trashed: map[string]bool{}, specs: map[string]*v1alpha1.ContainerSpec{},
		running: map[resource.Kind]map[resource.ID]bool{},
	}
	for _, k := range append([]resource.Kind{resource.KindAnswer}, objectKinds...) {
		for _, name := range slices.Sorted(maps.Keys(in.Observed[k].Unreadable)) {
			c.unread = append(c.unread, resource.ID{Kind: k, Name: name})
		}
	}
	objects := slices.Clone(in.Objects)
	slices.SortFunc(objects, func(a, b Object) int {
		return cmp.Or(cmp.Compare(a.Record.Name, b.Record.Name), cmp.Compare(a.Record.UID, b.Record.UID))
	})
	c.findUnclaimed()
	c.slots, c.ports = newSlotPool(c), c.readPorts()
	units := make([]*unitOf, 0, len(objects))
	for _, o := range objects {
		units = append(units, c.begin(o))
	}
	c.markCycles(units)
	for _, u := range units {
		c.settle(u)
	}
	// Links, names and dependencies need every object's address first.
	c.out.Objects = make([]Compiled, 0, len(units))
	for _, u := range units {
		c.emit(u)
		c.out.Objects = append(c.out.Objects, u.Compiled)
	}
	c.holdDumps(units)
	c.releaseOrphans()
	c.holdExceptions()
	c.slots.release()
	c.hostWide(units)
	return c.out
}

type compiler struct {
	Input
	out   Output
	slots *slotPool
	// unsure: what a preview that goes has needed of the host is not known.
	unsure bool
	// unclaimed machines: what the ledger has lost.
	unclaimed unclaimed
	targets   map[string]*unitOf // live objects by name
	// machines named by claimed instances, made when first asked for.
	machines map[holder]bool
	// ports wanted so far: host ports of objects compiled before.
	ports portTable
	// containers of NixOS by name, with the UID that has it; made when first asked for.
	containers map[string]string
	// trashed data goes with its object; by ledger key without prefix.
	trashed map[string]bool
	// specs of former incarnations, by their document: asked for several times.
	specs map[string]*v1alpha1.ContainerSpec
	// unread things are on the host and cannot be read.
	unread []resource.ID
	// running jobs, or to begin, by kind; made when first asked for.
	running map[resource.Kind]map[resource.ID]bool
	// byOwner indexes what was observed, made when first asked for.
	byOwner map[string][]resource.Resource
}

// want puts a resource into the desired set.
func (c *compiler) want(r resource.Resource) { c.out.Desired.Present[r.ID] = r }

// hold leaves a resource as it is.
func (c *compiler) hold(id resource.ID) { c.out.Desired.Held[id] = true }

// wake asks for another pass at t.
func (c *compiler) wake(t time.Time) {
	if !t.IsZero() && (c.out.NextWake.IsZero() || t.Before(c.out.NextWake)) {
		c.out.NextWake = t
	}
}

// waits reports whether something that began at since has to wait on, and until
// when. A beginning in the future is a clock that was set back: nothing waits for that.
func (c *compiler) waits(since time.Time, d time.Duration) (until time.Time, early bool) {
	until = since.Add(d)
	return until, until.After(c.Now) && !since.After(c.Now)
}

// observed returns the value of an observed resource.
func observed[T resource.Value](c *compiler, name string) (v T, present, known bool) {
	r, present, known := c.Observed.Get(resource.ID{Kind: v.Kind(), Name: name})
	if present {
		v = r.Value.(T)
	}
	return v, present, known
}

// ownedBy lists what of an object is on the host. complete is false when a
// kind that the object may have something of could not be observed.
func (c *compiler) ownedBy(u *unitOf) (rs []resource.Resource, complete bool) {
	if c.byOwner == nil {
		c.byOwner = map[string][]resource.Resource{}
		for _, k := range slices.Concat(objectKinds, databaseKinds) {
			for _, r := range c.Observed[k].Items {
				c.byOwner[r.Owner] = append(c.byOwner[r.Owner], r)
			}
		}
	}
	kinds := objectKinds
	if c.hasDatabases(u) {
		kinds = slices.Concat(objectKinds, databaseKinds)
	}
	complete = true
	for _, k := range kinds {
		if d, ok := c.Observed[k]; !ok || d.Err != nil {
			complete = false
		}
	}
	if _, err := c.unreadable(u); err != nil {
		complete = false
	}
	return c.byOwner[u.Record.UID], complete
}

// unreadable is something of an object that is on the host and cannot be read,
// and why: a volume of its name, or a part of a machine that it has claimed.
func (c *compiler) unreadable(u *unitOf) (resource.ID, error) {
	for _, id := range c.unread {
		mine := false
		switch id.Kind {
		case resource.KindVolume:
			mine = strings.HasPrefix(id.Name, resource.VolumeName(u.Record.Kind, u.Record.Name, ""))
		case resource.KindGate:
			mine = id.Name == u.Record.Name
		default:
			mine = slices.ContainsFunc(c.Claims.Instances[u.Record.UID], func(r InstanceRecord) bool {
				return id.Name == c.Naming.Machine(c.objectName(u.Record.UID), r.Ordinal)
			})
		}
		if mine {
			return id, c.Observed.Unknown(id)
		}
	}
	return resource.ID{}, nil
}

// hasDatabases reports whether the object has, or once had, a database: only
// then a PostgreSQL that is down delays it.
func (c *compiler) hasDatabases(u *unitOf) bool {
	if u.RunsNoMachine() {
		return false
	}
	if u.Spec == nil || len(u.Spec.Databases) > 0 {
		return true
	}
	for key, d := range c.Claims.Data {
		if d.Name == u.Record.Name && d.Kind == u.Record.Kind && strings.HasPrefix(key, "database/") {
			return true
		}
	}
	return false
}

// objectKinds are those that an object's deletion waits for; its claims go last.
var objectKinds = []resource.Kind{
	resource.KindRoute, resource.KindGate, resource.KindRecord, resource.KindSetup, resource.KindUnit, resource.KindAttachment, resource.KindLink,
	resource.KindException, resource.KindEndpoint, resource.KindPassword, resource.KindVolume, resource.KindInstance, resource.KindGCRoot,
}

var databaseKinds = []resource.Kind{resource.KindAccess, resource.KindDatabase, resource.KindRole}

// releaseOrphans lets go what is left of objects that the ledger does not know:
// claims of one that never came to be (the daemon died between its claims), and
// routes that a power cut brought back: their removal is not synced, that of the
// object's claims is. Where anything else of such an object exists, the ledger
// was damaged, and nothing is touched.
func (c *compiler) releaseOrphans() {
	if c.Unread || len(c.unread) > 0 {
		return // it may be about to come to be, or what cannot be read may be its own
	}
	known := make(map[string]bool, len(c.Objects))
	for _, o := range c.Objects {
		known[o.Record.UID] = true
	}
	release := func(owner string) {
		if owner == resource.HostOwner || owner == "" || known[owner] || c.out.Desired.Complete[owner] {
			return
		}
		left, complete := c.ownedBy(&unitOf{Compiled: Compiled{Record: ObjectRecord{UID: owner}}})
		if complete && !slices.ContainsFunc(left, func(r resource.Resource) bool { return r.Kind != resource.KindRoute }) {
			c.out.Desired.Complete[owner] = true
		}
	}
	for _, e := range c.Claims.All {
		release(e.Owner)
	}
	for _, r := range c.Observed[resource.KindRoute].Items {
		release(r.Owner)
	}
}

// hostWide emits what belongs to the host itself: there as long as an object needs it.
func (c *compiler) hostWide(units []*unitOf) {
	c.out.Desired.Complete[resource.HostOwner] = true
	var need hostNeeds
	for _, u := range units {
		c.addNeeds(&need, u)
	}
	for _, r := range c.hostResources(need) {
		c.want(r)
	}
	if c.Unread || c.unsure || len(c.unclaimed.machines) > 0 {
		c.holdHost()
	}
	for _, key := range slices.Sorted(maps.Keys(c.Claims.All)) {
		c.keepHostClaim(key)
	}
}

// hostKinds are those of the host's own things.
var hostKinds = []resource.Kind{
	resource.KindSysctl, resource.KindAddress, resource.KindTable, resource.KindPolicy, resource.KindCluster, resource.KindProxy, resource.KindResolver,
	resource.KindActivator, resource.KindClosure, resource.KindCheckout,
}

// holdHost leaves the host's own things as they are where no known object needs them.
func (c *compiler) holdHost() {
	for _, k := range hostKinds {
		for id := range c.Observed[k].Items {
			if !c.wanted(k, id.Name) {
				c.hold(id)
			}
		}
	}
}
