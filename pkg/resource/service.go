package resource

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"time"
)

// Claim is a durable entry of the ledger. Name = key.
type Claim struct {
	Key   string          `json:"key"` // slot/12, route/web.example.org/api ...
	Owner string          `json:"owner"`
	Value json.RawMessage `json:"value,omitempty"`
	Since time.Time       `json:"since,omitzero"` // when it was first claimed; not compared
	// Revision of the entry; 0 asks for "must not exist yet". Not compared.
	Revision int64 `json:"revision,omitempty"`
}

// Password is a generated database password in a 0600 file. Name = role name.
type Password struct {
	File string `json:"file"`
	// Digest is observed only: keyed, for fingerprints.
	Digest string `json:"digest,omitempty"`
}

// Cluster is the PostgreSQL of the host, the managed one or its own.
type Cluster struct {
	Listen         netip.AddrPort `json:"listen"`
	MaxConnections int            `json:"maxConnections"`
}

// Role is a PostgreSQL login role without any privilege of its own. Its
// password reaches PostgreSQL only as a SCRAM verifier.
type Role struct {
	Name            string `json:"name"`
	PasswordFile    string `json:"passwordFile"`
	ConnectionLimit int    `json:"connectionLimit"`
}

// Database is a PostgreSQL database, marked by COMMENT ON DATABASE, owned by
// its role, CONNECT revoked from PUBLIC.
type Database struct {
	Name       string   `json:"name"`
	Owner      string   `json:"owner"` // role name
	Extensions []string `json:"extensions,omitempty"`
	// Policy is what a Delete step does: DeleteData dumps to the trash, then drops.
	Policy DeletionPolicy `json:"policy"`
	// Label is "KIND/NAME/DATABASE", for people and for the trash.
	Label string `json:"label"`
	// Template is the database that it is made as a copy of; "": it begins empty.
	// Desired only, and not compared: what is there stays as it is.
	Template string `json:"template,omitempty"`
	// Revision that a machine was last set up for with it, and whether it was seeded:
	// it tells itself, as it outlives machines and objects. Neither is taken back.
	Revision string `json:"revision,omitempty"`
	Seeded   bool   `json:"seeded,omitempty"`
	// OID tells it from a later one of its name. Observed only.
	OID uint32 `json:"oid,omitempty"`
}

// Dump is a copy of a database in the trash, made before another revision is set
// up. Name = DATABASE@REVISION.
type Dump struct {
	Database string `json:"database"`
	Revision string `json:"revision"`
	// After is when the database was last set up for another revision: an older dump
	// does not hold that. Wanted only.
	After time.Time `json:"after,omitzero"`
	// MadeAt is observed only.
	MadeAt time.Time `json:"madeAt,omitzero"`
}

// Access lets one role reach one database from one address: a pg_hba line.
// Name = "ROLE@ADDR".
type Access struct {
	Role     string     `json:"role"`
	Database string     `json:"database"`
	Addr     netip.Addr `json:"addr"`
}

// Proxy is the Caddy of the host, the managed one or its own.
type Proxy struct {
	HTTPPort  int    `json:"httpPort"`
	HTTPSPort int    `json:"httpsPort,omitempty"` // 0: no TLS anywhere
	Domain    string `json:"domain,omitempty"`    // unknown hosts below it get our 404
	// Certificates for TLS mode files, by host pattern.
	Certificates []Certificate `json:"certificates,omitempty"`
	// GracePeriod that open connections of a changed site keep.
	GracePeriod Duration `json:"gracePeriod"`
	// ACME is the authority of TLS mode acme.
	ACME ACME `json:"acme,omitzero"`
}

// ACME is an authority that gives certificates by RFC 8555.
type ACME struct {
	Directory string `json:"directory,omitempty"` // URL
	Email     string `json:"email,omitempty"`
	Roots     string `json:"roots,omitempty"` // PEM file that the authority's own certificate is checked with
}

// Certificate is a pair of files for the hosts that match Hosts.
type Certificate struct {
	Hosts []string `json:"hosts"` // web.example.org, *.example.org
	Cert  string   `json:"cert"`
	Key   string   `json:"key"`
}

// TLSMode of a route's host.
type TLSMode string

const (
	TLSOff      TLSMode = "off"
	TLSInternal TLSMode = "internal" // Caddy's own authority
	TLSFiles    TLSMode = "files"    // a Certificate of the Proxy
	TLSACME     TLSMode = "acme"     // from a public authority, see Proxy.ACME
)

// Route is one (host, path) served by the ingress. Name = HOST + PATH, with
// "=" before PATH for an exact one.
type Route struct {
	Host        string         `json:"host"`
	Path        string         `json:"path"`
	Exact       bool           `json:"exact,omitempty"`
	StripPrefix bool           `json:"stripPrefix,omitempty"`
	TLS         TLSMode        `json:"tls"`
	Backend     netip.AddrPort `json:"backend"`
	Label       string         `json:"label"` // KIND/NAME, a comment in the site file and in our 503 page
	// Gate and GatePort tell the activator, which Backend is then, where a request is to go.
	Gate     string `json:"gate,omitempty"`
	GatePort int    `json:"gatePort,omitempty"`
	// MovedAt is when the proxy began to send requests to Backend. Observed, never desired.
	MovedAt time.Time `json:"movedAt,omitzero"`
	// Certificate that the host is served with. Observed, never desired; of the modes files and acme.
	Certificate Served `json:"-"`
}

// Served says how the certificate of a host stands.
type Served struct {
	// NotAfter is when it expires; zero: there is none yet, or it is not known.
	NotAfter time.Time
	// Missing says that there is none yet; Message what the authority said last.
	Missing bool
	Message string
}

func (Claim) Kind() Kind    { return KindClaim }
func (Password) Kind() Kind { return KindPassword }
func (Cluster) Kind() Kind  { return KindCluster }
func (Role) Kind() Kind     { return KindRole }
func (Database) Kind() Kind { return KindDatabase }
func (Dump) Kind() Kind     { return KindDump }
func (Access) Kind() Kind   { return KindAccess }
func (Proxy) Kind() Kind    { return KindProxy }
func (Route) Kind() Kind    { return KindRoute }

// Equal compares the entry itself.
func (v Claim) Equal(o Value) bool {
	w, ok := o.(Claim)
	return ok && v.Key == w.Key && v.Owner == w.Owner && string(v.Value) == string(w.Value)
}

// Equal compares the file; a password is never changed once stored.
func (v Password) Equal(o Value) bool {
	w, ok := o.(Password)
	return ok && v.File == w.File
}
func (v Cluster) Equal(o Value) bool { return v == o }
func (v Role) Equal(o Value) bool    { return v == o }

// Equal ignores policy and template: they matter when the database goes, or comes.
func (v Database) Equal(o Value) bool {
	w, ok := o.(Database)
	return ok && v.Name == w.Name && v.Owner == w.Owner && reflect.DeepEqual(v.Extensions, w.Extensions) &&
		v.Revision == w.Revision && v.Seeded == w.Seeded
}

// Equal compares when one was made with since when the other one is wanted.
func (v Dump) Equal(o Value) bool {
	w, ok := o.(Dump)
	return ok && v.Database == w.Database && v.Revision == w.Revision && !v.olderThan(w) && !w.olderThan(v)
}

func (v Dump) olderThan(w Dump) bool { return !v.MadeAt.IsZero() && v.MadeAt.Before(w.After) }

func (v Access) Equal(o Value) bool { return v == o }
func (v Proxy) Equal(o Value) bool  { return reflect.DeepEqual(v, o) }

// Equal ignores since when the route is as it is, and how its certificate stands.
func (v Route) Equal(o Value) bool {
	w, ok := o.(Route)
	w.MovedAt, w.Certificate = v.MovedAt, v.Certificate
	return ok && v == w
}
