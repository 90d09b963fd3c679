package resource

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

const (
	// UIDFirst and UIDRange lay out user namespaces: slot N gets
	// [UIDFirst + N*UIDRange, +UIDRange). systemd's own dynamic range for
	// containers begins at the same number.
	UIDFirst = 524288
	UIDRange = 65536
	// SlotLimit is the number of slots that fit below the 32-bit id space.
	SlotLimit = (1<<32 - UIDFirst) / UIDRange
	// maxIdentifier is PostgreSQL's limit for names, in bytes.
	maxIdentifier = 63
)

// Naming derives every host-global name. No other package makes one up.
type Naming struct {
	Instance string       // Host.spec.instance, at most 4 characters
	Subnet   netip.Prefix // IPv4
}

// Slots is the number of usable slots: 1..Slots. Slot 0's pair is the network
// and the service address; the last pair holds the broadcast address.
func (n Naming) Slots() int {
	return min(1<<(32-n.Subnet.Bits())/2-2, SlotLimit-1)
}

// Service is the service address, .0.1 of the subnet.
func (n Naming) Service() netip.Addr { return n.nth(1) }

// HostAddr is the host's end of a slot's link: 2N.
func (n Naming) HostAddr(slot int) netip.Addr { return n.nth(2 * slot) }

// Addr is the machine's address of a slot: 2N+1.
func (n Naming) Addr(slot int) netip.Addr { return n.nth(2*slot + 1) }

func (n Naming) nth(i int) netip.Addr {
	b := n.Subnet.Masked().Addr().As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	v += uint32(i)
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// LinkPrefix starts every link name of ours. A link's name has at most 15 characters.
func (n Naming) LinkPrefix() string { return "tk" + n.Instance }

// Link is the host end of a slot's veth pair.
func (n Naming) Link(slot int) string { return n.LinkPrefix() + strconv.Itoa(slot) }

// Peer is the other end while it is on the host.
func (n Naming) Peer(slot int) string { return n.Link(slot) + "p" }

// Table is the name of our nft table.
func (n Naming) Table() string {
	if n.Instance == "" {
		return "tekton"
	}
	return "tekton_" + n.Instance
}

// RoutingTable is the number of our routing table and, as the priority of its
// rules, free of collisions between instances unless two hash alike (then the
// address of the rule differs and the driver refuses).
func (n Naming) RoutingTable() int { return 0x7e000000 | n.hash()&0xffffff }

// RulePriority is the priority of the first policy rule; exceptions sit at
// RulePriority-1. Between the kernel's local (0) and main (32766).
func (n Naming) RulePriority() int { return 20000 + 4*(n.hash()%2000) }

func (n Naming) hash() int {
	h := sha256.Sum256([]byte(n.Instance))
	return int(h[0])<<16 | int(h[1])<<8 | int(h[2])
}

// Machine is the name of an object's incarnation.
func (n Naming) Machine(object string, ordinal int) string {
	return object + "-" + strconv.Itoa(ordinal)
}

// Unit is the systemd unit, and the cgroup, of a machine or service. The dot
// after the instance occurs in no object's name: instance "web" with object
// "foo" is not instance "" with object "web-foo".
func (n Naming) Unit(machine string) string {
	if n.Instance == "" {
		return "tekton-" + machine + ".service"
	}
	return "tekton-" + n.Instance + "." + machine + ".service"
}

// UIDBase is the first id of a slot's user namespace.
func (n Naming) UIDBase(slot int) uint32 { return uint32(UIDFirst + slot*UIDRange) }

// DatabaseName is the name of an object's database and of its role. It is
// injective: labels of kind, name and database cannot contain "_", and what
// would exceed PostgreSQL's 63 bytes ends in a hash of the whole.
func (n Naming) DatabaseName(kind, object, database string) string {
	parts := []string{"tekton", strings.ToLower(kind), object, database}
	if n.Instance != "" {
		parts[0] = "tekton" + n.Instance
	}
	full := strings.Join(parts, "_")
	if len(full) <= maxIdentifier {
		return full
	}
	sum := sha256.Sum256([]byte(full))
	return full[:maxIdentifier-17] + "_" + hex.EncodeToString(sum[:8])
}

// VolumeName is the resource name of an object's volume.
func VolumeName(kind, object, volume string) string {
	return strings.ToLower(kind) + "." + object + "." + volume
}

// MAC derives a locally administered hardware address from an IPv4 address, so
// that a re-used address is never behind a neighbour entry that is wrong.
func MAC(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x02, 0x74, b[0], b[1], b[2], b[3]}
}

// RouteName is the resource name of a route.
func RouteName(host, path string, exact bool) string {
	if exact {
		return host + "=" + path
	}
	return host + path
}

// ExceptionName is the resource name of an exception.
func ExceptionName(from, to netip.Addr, port int, protocol string) string {
	return fmt.Sprintf("%s>%s:%d/%s", from, to, port, protocol)
}
