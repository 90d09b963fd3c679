package resource

import (
	"net/netip"
	"reflect"
	"slices"
)

// Sysctl is one kernel setting that we changed.
type Sysctl struct {
	Key   string `json:"key"` // net.ipv4.ip_forward
	Value string `json:"value"`
}

// Address is the service address on lo: database, DNS and ingress for machines
// are there and only there.
type Address struct {
	Addr netip.Addr `json:"addr"` // added as /32
}

// Table is the static part of our nft table: chains and empty sets.
type Table struct {
	Subnet  netip.Prefix `json:"subnet"`
	Service netip.Addr   `json:"service"`
	// Ports on the service address that every machine may reach.
	DNSPort int `json:"dnsPort,omitempty"`
	// IngressPorts are the TCP ports of the managed proxy that machines with
	// egress may reach on any address of the host.
	IngressPorts []int `json:"ingressPorts,omitempty"`
	// DatabasePort on the service address; only endpoints with Database set reach it.
	DatabasePort int `json:"databasePort,omitempty"`
}

// Policy is the second isolation layer, independent of nft: rule 1
// "from SUBNET iif lo lookup main", rule 2 "from SUBNET lookup TABLE", and
// TABLE with a blackhole for each private range and "throw default".
type Policy struct {
	Subnet netip.Prefix `json:"subnet"`
	Table  int          `json:"table"`
	// Priority of the first rule; the second is Priority+1. Exceptions sit before both.
	Priority int `json:"priority"`
}

// EgressMode says what a machine may reach outside.
type EgressMode string

const (
	EgressInternet EgressMode = "internet" // public addresses only
	EgressNone     EgressMode = "none"
	EgressAll      EgressMode = "all" // private networks too (trusted only)
)

// PeerRule is a destination that egress allows beyond its mode.
type PeerRule struct {
	Prefix   netip.Prefix `json:"prefix"`
	Port     int          `json:"port,omitempty"`     // 0: all ports
	Protocol string       `json:"protocol,omitempty"` // tcp, udp; empty with port 0
}

// Publish maps a port of the host to a port of the machine.
type Publish struct {
	HostIP   netip.Addr `json:"hostIP"` // 0.0.0.0: all addresses of the host
	HostPort int        `json:"hostPort"`
	Port     int        `json:"port"`
	Protocol string     `json:"protocol"` // tcp, udp
}

// Endpoint is what the firewall knows of one instance. Name = link name.
type Endpoint struct {
	Link     string     `json:"link"`
	Addr     netip.Addr `json:"addr"`
	Egress   EgressMode `json:"egress"`
	Allow    []PeerRule `json:"allow,omitempty"` // sorted
	Database bool       `json:"database,omitempty"`
	Publish  []Publish  `json:"publish,omitempty"` // sorted
}

// Exception lets one machine reach one port of another: an nft element and a
// pair of ip rules before the policy. Name = "FROM>TO:PORT/PROTO".
type Exception struct {
	From     netip.Addr `json:"from"`
	To       netip.Addr `json:"to"`
	Port     int        `json:"port"`
	Protocol string     `json:"protocol"`
}

// Link is a veth pair with both ends on the host. Name = the host end's name.
// The host end is marked by its alias (Mark, a space, the object's name), up,
// addressed HostAddr/32 with a route to Addr, and has a permanent neighbour
// entry for the peer. MAC addresses are functions of the addresses.
type Link struct {
	Name     string     `json:"name"`
	Peer     string     `json:"peer"`  // name of the other end while it is on the host
	Label    string     `json:"label"` // machine name, for humans, in the alias
	HostAddr netip.Addr `json:"hostAddr"`
	Addr     netip.Addr `json:"addr"`
}

// Attachment is the peer of a link inside a machine: named host0, addressed,
// up, with a default route through HostAddr and a permanent neighbour entry.
// Name = link name. Observed: the peer is no longer on the host.
type Attachment struct {
	Link    Link       `json:"link"`
	Service netip.Addr `json:"service"`
	// Leader is the PID, seen from the host, of the machine's first process.
	// Not compared: it is an input of the step.
	Leader int `json:"leader,omitempty"`
}

// Record lets machines resolve NAME.<dns domain>. Name = the label.
type Record struct {
	Label string     `json:"label"`
	Addr  netip.Addr `json:"addr"`
	// Clients are the addresses of machines that may resolve it, sorted.
	Clients []netip.Addr `json:"clients,omitempty"`
	// NoForward are those addresses of the object's own machines that get no
	// answers for names outside our domain, sorted: machines without egress, to
	// which DNS would be a way out.
	NoForward []netip.Addr `json:"noForward,omitempty"`
}

// Resolver is the supervised DNS server of the host.
type Resolver struct {
	Listen    netip.AddrPort `json:"listen"`
	Domain    string         `json:"domain"` // tekton.internal
	Upstreams []string       `json:"upstreams,omitempty"`
	// Resolved has the host's systemd-resolved ask it for Domain.
	Resolved bool `json:"resolved,omitempty"`
}

func (Sysctl) Kind() Kind     { return KindSysctl }
func (Address) Kind() Kind    { return KindAddress }
func (Table) Kind() Kind      { return KindTable }
func (Policy) Kind() Kind     { return KindPolicy }
func (Endpoint) Kind() Kind   { return KindEndpoint }
func (Exception) Kind() Kind  { return KindException }
func (Link) Kind() Kind       { return KindLink }
func (Attachment) Kind() Kind { return KindAttachment }
func (Record) Kind() Kind     { return KindRecord }
func (Resolver) Kind() Kind   { return KindResolver }

func (v Sysctl) Equal(o Value) bool    { return v == o }
func (v Address) Equal(o Value) bool   { return v == o }
func (v Table) Equal(o Value) bool     { return reflect.DeepEqual(v, o) }
func (v Policy) Equal(o Value) bool    { return v == o }
func (v Exception) Equal(o Value) bool { return v == o }

// Equal compares what the kernel can show for certain.
func (v Link) Equal(o Value) bool { return v == o }

// Equal ignores the leader: whether the peer sits in a dead machine shows in
// the unit, and a dead machine's link is made anew.
func (v Attachment) Equal(o Value) bool {
	w, ok := o.(Attachment)
	return ok && v.Link.Name == w.Link.Name
}

// Equal of what every machine has is asked for in every pass: reflection would
// be a tenth of it.
func (v Endpoint) Equal(o Value) bool {
	w, ok := o.(Endpoint)
	return ok && v.Link == w.Link && v.Addr == w.Addr && v.Egress == w.Egress && v.Database == w.Database &&
		slices.Equal(v.Allow, w.Allow) && slices.Equal(v.Publish, w.Publish)
}

// Equal compares all fields.
func (v Record) Equal(o Value) bool {
	w, ok := o.(Record)
	return ok && v.Label == w.Label && v.Addr == w.Addr && slices.Equal(v.Clients, w.Clients) && slices.Equal(v.NoForward, w.NoForward)
}
func (v Resolver) Equal(o Value) bool { return reflect.DeepEqual(v, o) }
