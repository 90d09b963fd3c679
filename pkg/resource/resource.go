package resource

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kind names one sort of thing on the host.
type Kind string

// Kinds that belong to the host itself (Owner is HostOwner).
const (
	KindSysctl    Kind = "sysctl"    // one changed kernel setting; the original is in the ledger
	KindAddress   Kind = "address"   // the service address on lo
	KindTable     Kind = "table"     // the static part of our nft table
	KindPolicy    Kind = "policy"    // our routing table and the two ip rules that lead to it
	KindCluster   Kind = "cluster"   // the managed PostgreSQL
	KindProxy     Kind = "proxy"     // the managed Caddy
	KindResolver  Kind = "resolver"  // the supervised DNS server
	KindActivator Kind = "activator" // the supervised process in front of objects that may sleep
	KindClosure   Kind = "closure"   // what a flake builds to; objects that want the same share it
	KindCheckout  Kind = "checkout"  // what a reference of a git repository is; shared like closures
)

// Kinds that belong to an object.
const (
	KindClaim      Kind = "claim"      // a durable claim in the ledger
	KindPassword   Kind = "password"   // a generated database password, stored 0600
	KindRole       Kind = "role"       // a PostgreSQL role
	KindDatabase   Kind = "database"   // a PostgreSQL database
	KindDump       Kind = "dump"       // a copy of a database from before a revision, in the trash
	KindAccess     Kind = "access"     // one pg_hba line: role, database, address
	KindVolume     Kind = "volume"     // a data directory that outlives machines
	KindEndpoint   Kind = "endpoint"   // the firewall elements of one instance
	KindException  Kind = "exception"  // a declared link between two machines: nft element and ip rules
	KindGCRoot     Kind = "gcroot"     // what keeps a closure in the Nix store from the garbage collector
	KindInstance   Kind = "instance"   // the prepared directory of one instance
	KindLink       Kind = "link"       // a veth pair, both ends on the host
	KindUnit       Kind = "unit"       // the running machine of one instance
	KindAttachment Kind = "attachment" // the link's peer, moved into the machine and configured
	KindSetup      Kind = "setup"      // what is done once inside a running machine for a revision
	KindAnswer     Kind = "answer"     // the fact that an instance has answered its probe
	KindRecord     Kind = "record"     // a DNS name and who may resolve it
	KindRoute      Kind = "route"      // a (host, path) served by the ingress
	KindGate       Kind = "gate"       // an object's place in the activator
)

// HostOwner is the owner of what belongs to the host itself.
const HostOwner = "host"

// RetainedOwner marks data whose object is gone and whose policy kept it.
const RetainedOwner = "retained"

// ID is the identity of a resource on one host.
type ID struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
}

func (id ID) String() string { return string(id.Kind) + "/" + id.Name }

// Compare orders identities by kind, then by name.
func (id ID) Compare(other ID) int {
	return cmp.Or(cmp.Compare(id.Kind, other.Kind), cmp.Compare(id.Name, other.Name))
}

// Value is the typed content of a resource. Implementations are plain structs
// without pointers to shared state; they are never mutated after creation.
type Value interface {
	Kind() Kind
	// Equal reports whether the other value asks for the same thing on the
	// host. Observed-only fields take no part.
	Equal(Value) bool
}

// Resource is one thing on the host, desired or observed.
type Resource struct {
	ID
	// Owner is the UID of the object that the thing belongs to, HostOwner, or,
	// for an observed thing with our mark and an unreadable owner, "".
	Owner string `json:"owner"`
	// Instance is the machine name of the incarnation that the thing belongs
	// to and goes away with; empty when the object's instances share it.
	Instance string `json:"instance,omitempty"`
	Value    Value  `json:"value"`
}

// New returns a resource whose kind is its value's.
func New(owner, instance, name string, v Value) Resource {
	return Resource{ID: ID{v.Kind(), name}, Owner: owner, Instance: instance, Value: v}
}

// Equal reports whether two resources with the same identity ask for the same.
func (r Resource) Equal(o Resource) bool {
	return r.ID == o.ID && r.Owner == o.Owner && r.Instance == o.Instance && r.Value.Equal(o.Value)
}

// Set is a set of resources by identity.
type Set map[ID]Resource

// NewSet returns the set of the given resources; a later one replaces an
// earlier one of the same identity.
func NewSet(rs ...Resource) Set {
	s := make(Set, len(rs))
	for _, r := range rs {
		s[r.ID] = r
	}
	return s
}

// Sorted returns the resources ordered by identity.
func (s Set) Sorted() []Resource {
	return slices.SortedFunc(maps.Values(s), func(a, b Resource) int { return a.Compare(b.ID) })
}

// Domain is what one observation of one kind yielded: Known(Items) when Err is
// nil, else Unknown(Err). An Unknown domain has no items.
type Domain struct {
	Items Set
	Err   error
	// Unreadable names things that are there, or may be, and could not be read:
	// nothing is known of them, and all of the others.
	Unreadable map[string]error
}

// Unread notes that a thing could not be read.
func (d *Domain) Unread(name string, err error) {
	if d.Unreadable == nil {
		d.Unreadable = map[string]error{}
	}
	d.Unreadable[name] = err
}

// Known returns a domain that was observed whole.
func Known(rs ...Resource) Domain { return Domain{Items: NewSet(rs...)} }

// Unknown returns a domain that could not be observed. err must not be nil.
func Unknown(err error) Domain { return Domain{Err: err} }

// Observed is what the host has now, by kind. A kind that is absent from the
// map was never observed and counts as Unknown.
type Observed map[Kind]Domain

// Get returns the observed resource. known is false when the kind is Unknown, or
// this one of it.
func (o Observed) Get(id ID) (r Resource, present, known bool) {
	d, ok := o[id.Kind]
	if !ok || d.Err != nil || d.Unreadable[id.Name] != nil {
		return Resource{}, false, false
	}
	r, present = d.Items[id]
	return r, present, true
}

// Unknown says why nothing is known of a resource, nil when it is known to be
// there or not to be there.
func (o Observed) Unknown(id ID) error {
	d, ok := o[id.Kind]
	if !ok {
		return fmt.Errorf("%s was not observed yet", id.Kind)
	}
	return cmp.Or(d.Err, d.Unreadable[id.Name])
}

// Len is the number of observed resources.
func (o Observed) Len() int {
	n := 0
	for _, d := range o {
		n += len(d.Items)
	}
	return n
}

// Mark is how a resource says on the thing itself that it is ours:
// "tekton/<installation id>/<owner>".
type Mark struct {
	Installation string
	Owner        string
}

const markPrefix = "tekton/"

func (m Mark) String() string { return markPrefix + m.Installation + "/" + m.Owner }

// ParseMark reads a mark from the first word of s. ok is false when s carries none.
func ParseMark(s string) (m Mark, ok bool) {
	word, _, _ := strings.Cut(s, " ")
	rest, found := strings.CutPrefix(word, markPrefix)
	if !found {
		return Mark{}, false
	}
	installation, owner, found := strings.Cut(rest, "/")
	if !found || installation == "" || owner == "" {
		return Mark{}, false
	}
	return Mark{Installation: installation, Owner: owner}, true
}
