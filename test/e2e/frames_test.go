package e2e_test

import (
	"encoding/binary"
	"net/netip"
)

// Packets of an attacker, byte by byte: no library refuses to forge them.

const (
	icmp    = 1
	ipip    = 4
	tcp     = 6
	udp     = 17
	gre     = 47
	icmp6   = 58
	etherIP = 0x0800
	etherV6 = 0x86dd
)

// ether is a frame; tags go between its addresses and its type.
func ether(to, from []byte, kind uint16, payload []byte, tags ...uint16) []byte {
	b := append(append([]byte{}, to[:6]...), from[:6]...)
	for _, t := range append(tags, kind) {
		b = binary.BigEndian.AppendUint16(b, t)
	}
	return append(b, payload...)
}

// ipv4 is a packet; options are a multiple of four bytes.
func ipv4(from, to string, proto byte, payload []byte, options ...byte) []byte {
	b := make([]byte, 20, 20+len(options)+len(payload))
	b[0] = 0x45 + byte(len(options)/4)
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(options)+len(payload)))
	b[8], b[9] = 64, proto
	copy(b[12:], netip.MustParseAddr(from).AsSlice())
	copy(b[16:], netip.MustParseAddr(to).AsSlice())
	b = append(b, options...)
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return append(b, payload...)
}

// fragment makes a packet the part of another at an offset.
func fragment(packet []byte, offset int, more bool) []byte {
	flags := uint16(offset / 8)
	if more {
		flags |= 0x2000
	}
	binary.BigEndian.PutUint16(packet[4:], 0x7e57)
	binary.BigEndian.PutUint16(packet[6:], flags)
	packet[10], packet[11] = 0, 0
	binary.BigEndian.PutUint16(packet[10:], checksum(packet[:20]))
	return packet
}

// datagram has no checksum, which IPv4 permits.
func datagram(from, to uint16, data string) []byte {
	b := binary.BigEndian.AppendUint16(nil, from)
	b = binary.BigEndian.AppendUint16(b, to)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(data)))
	return append(append(b, 0, 0), data...)
}

// syn opens a connection, and carries data already.
func syn(src, dst string, from, to uint16, data string) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	b[12], b[13] = 5<<4, 2
	binary.BigEndian.PutUint16(b[14:], 0xffff)
	b = append(b, data...)
	binary.BigEndian.PutUint16(b[16:], checksum(pseudo(src, dst, tcp, b)))
	return b
}

func echo(data string) []byte { return icmpOf(8, append([]byte{0, 1, 0, 1}, data...)) }

func icmpOf(kind byte, rest []byte) []byte {
	b := append([]byte{kind, 0, 0, 0}, rest...)
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

// ipv6 is a packet of ICMPv6.
func ipv6(from, to string, kind byte, rest []byte) []byte {
	b := append([]byte{kind, 0, 0, 0}, rest...)
	binary.BigEndian.PutUint16(b[2:], checksum(pseudo(from, to, icmp6, b)))
	h := []byte{0x60, 0, 0, 0, byte(len(b) >> 8), byte(len(b)), icmp6, 255}
	h = append(h, netip.MustParseAddr(from).AsSlice()...)
	return append(append(h, netip.MustParseAddr(to).AsSlice()...), b...)
}

// option of a neighbour discovery message that everybody skips.
func option6(data string) []byte {
	for len(data)%8 != 6 {
		data += " "
	}
	return append([]byte{253, byte((len(data) + 2) / 8)}, data...)
}

func arp(op uint16, fromMAC []byte, from string, toMAC []byte, to string) []byte {
	b := []byte{0, 1, 8, 0, 6, 4}
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(append(b, fromMAC...), netip.MustParseAddr(from).AsSlice()...)
	return append(append(b, toMAC...), netip.MustParseAddr(to).AsSlice()...)
}

func pseudo(from, to string, proto byte, payload []byte) []byte {
	b := append(netip.MustParseAddr(from).AsSlice(), netip.MustParseAddr(to).AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, uint32(proto))
	return append(b, payload...)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i]) << 8
		if i+1 < len(b) {
			word |= uint32(b[i+1])
		}
		sum += word
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
