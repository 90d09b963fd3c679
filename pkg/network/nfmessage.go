package network

import (
	"encoding/binary"
	"slices"

	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// nfHeader is the length of struct nfgenmsg.
const nfHeader = 4

// nfMessage is a request to nf_tables about the inet family.
func nfMessage(kind uint16, flags mdnetlink.HeaderFlags, attrs ...mdnetlink.Attribute) mdnetlink.Message {
	data := []byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}
	// Attributes are made here: none of them is too long to be marshalled.
	encoded, _ := mdnetlink.MarshalAttributes(attrs)
	return mdnetlink.Message{
		Header: mdnetlink.Header{Type: mdnetlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: mdnetlink.Request | flags},
		Data:   append(data, encoded...),
	}
}

func attr(kind uint16, value string) mdnetlink.Attribute {
	return mdnetlink.Attribute{Type: kind, Data: append([]byte(value), 0)}
}

// nfAttributes are the attributes of an answer.
func nfAttributes(m mdnetlink.Message) map[uint16][]byte {
	out := map[uint16][]byte{}
	if len(m.Data) < nfHeader {
		return out
	}
	for kind, v := range attributes(m.Data[nfHeader:]) {
		out[kind] = v
	}
	return out
}

// pick is a stable form of some attributes.
func pick(attrs map[uint16][]byte, keep []uint16) []byte {
	var out []byte
	for _, k := range slices.Sorted(slices.Values(keep)) {
		v, ok := attrs[k]
		if !ok {
			continue
		}
		out = binary.BigEndian.AppendUint16(out, k)
		out = binary.BigEndian.AppendUint32(out, uint32(len(v)))
		out = append(out, v...)
	}
	return out
}
