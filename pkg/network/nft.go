package network

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/host"
)

const (
	// nftBuffer holds a transaction's messages and its answers.
	nftBuffer = 8 << 20
	// elementsPerMessage keeps a message below the 64 KiB of one attribute.
	elementsPerMessage = 128
	// readTries bounds readings of a table that changes meanwhile.
	readTries = 5
)

// ruleset reads and changes one nft table over netlink. The last reading is
// kept for as long as the kernel's generation id says that nothing changed.
type ruleset struct {
	name string
	mu   sync.Mutex
	raw  *mdnetlink.Conn
	nft  *nftables.Conn
	last *table
}

func newRuleset(name string) (*ruleset, error) {
	raw, err := mdnetlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open the netfilter netlink socket: %w", err)
	}
	size := func(c *mdnetlink.Conn) error {
		return errors.Join(c.SetReadBuffer(nftBuffer), c.SetWriteBuffer(nftBuffer))
	}
	nft, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(size))
	if err == nil {
		err = size(raw)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the nftables netlink socket: %w", err), raw.Close())
	}
	return &ruleset{name: name, raw: raw, nft: nft}, nil
}

func (r *ruleset) close() error { return errors.Join(r.raw.Close(), r.nft.CloseLasting()) }

// read returns the table as it is. The result is not to be changed.
func (r *ruleset) read() (*table, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.readLocked()
}

func (r *ruleset) readLocked() (*table, error) {
	for range readTries {
		before, err := r.generation()
		if err != nil {
			return nil, err
		}
		if r.last != nil && r.last.generation == before {
			return r.last, nil
		}
		t, err := r.readTable()
		after, genErr := r.generation()
		if genErr != nil {
			return nil, genErr
		}
		if before != after {
			continue // what was read may be half of two states
		}
		if err != nil {
			return nil, fmt.Errorf("read nft table inet %s: %w", r.name, err)
		}
		t.generation = after
		r.last = t
		return t, nil
	}
	return nil, fmt.Errorf("read nft table inet %s: the ruleset changed during each of %d readings; look again later", r.name, readTries)
}

func (r *ruleset) generation() (uint32, error) {
	msgs, err := r.raw.Execute(nfMessage(unix.NFT_MSG_GETGEN, 0))
	if err != nil {
		return 0, fmt.Errorf("read the nft generation id: %w", err)
	}
	for _, m := range msgs {
		for kind, v := range nfAttributes(m) {
			if kind == unix.NFTA_GEN_ID && len(v) == 4 {
				return binary.BigEndian.Uint32(v), nil
			}
		}
	}
	return 0, errors.New("read the nft generation id: the kernel's answer has none")
}

func (r *ruleset) readTable() (*table, error) {
	t := newTable()
	msgs, err := r.raw.Execute(nfMessage(unix.NFT_MSG_GETTABLE, 0, attr(unix.NFTA_TABLE_NAME, r.name)))
	if errors.Is(err, unix.ENOENT) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	t.present = true
	for _, m := range msgs {
		if data, ok := nfAttributes(m)[tableUserdata]; ok {
			t.comment, _ = userdata.GetString(data, 0)
		}
	}
	digest := sha256.New()
	for _, kind := range []uint16{unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_GETRULE} {
		parts, err := r.dump(kind)
		if err != nil {
			return nil, err
		}
		for _, p := range parts {
			digest.Write(p)
		}
	}
	specs := map[string]*setSpec{}
	for _, s := range elementSets() {
		specs[s.name] = s
	}
	sets, err := r.dumpSets()
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		digest.Write([]byte(name))
		digest.Write(sets[name])
		if name == dynamicSet {
			continue // the kernel fills it
		}
		found, err := r.nft.GetSetElements(r.set(name))
		if err != nil {
			return nil, err
		}
		switch spec := specs[name]; {
		case spec != nil:
			t.take(spec, found)
		case name == aboutSet:
			t.notes = notesOf(found)
		default:
			digest.Write(constants(found))
		}
	}
	t.digest = hex.EncodeToString(digest.Sum(nil)[:16])
	return t, nil
}

const (
	aboutSet   = "about"
	dynamicSet = "dns_rate"
	// tableUserdata is NFTA_TABLE_USERDATA.
	tableUserdata = 6
)

// notesOf returns the comments of the set "about", in its order.
func notesOf(found []nftables.SetElement) []string {
	slices.SortFunc(found, func(a, b nftables.SetElement) int { return bytes.Compare(a.Key, b.Key) })
	notes := make([]string, len(found))
	for i, f := range found {
		notes[i] = f.Comment
	}
	return notes
}

// constants is a stable form of the elements of a set that only loading fills.
func constants(found []nftables.SetElement) []byte {
	var rows []string
	for _, f := range found {
		rows = append(rows, fmt.Sprintf("%x-%x:%x/%v", f.Key, f.KeyEnd, f.Val, f.IntervalEnd))
	}
	slices.Sort(rows)
	return []byte(strings.Join(rows, "\n"))
}

// dump returns what identifies each chain or rule of the table: not its
// handle, its use count or its counters.
func (r *ruleset) dump(kind uint16) ([][]byte, error) {
	keep := []uint16{unix.NFTA_CHAIN_NAME, unix.NFTA_CHAIN_HOOK, unix.NFTA_CHAIN_POLICY, unix.NFTA_CHAIN_TYPE}
	if kind == unix.NFT_MSG_GETRULE {
		keep = []uint16{unix.NFTA_RULE_CHAIN, unix.NFTA_RULE_EXPRESSIONS, unix.NFTA_RULE_USERDATA}
	}
	// The table's name is attribute 1 of both. Chains cannot be filtered by table in the kernel.
	msgs, err := r.raw.Execute(nfMessage(kind, mdnetlink.Dump, attr(unix.NFTA_RULE_TABLE, r.name)))
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, m := range msgs {
		a := nfAttributes(m)
		if m.Data[0] != unix.NFPROTO_INET || unix.ByteSliceToString(a[unix.NFTA_RULE_TABLE]) != r.name {
			continue
		}
		out = append(out, pick(a, keep))
	}
	return out, nil
}

func (r *ruleset) dumpSets() (map[string][]byte, error) {
	keep := []uint16{unix.NFTA_SET_FLAGS, unix.NFTA_SET_KEY_TYPE, unix.NFTA_SET_KEY_LEN, unix.NFTA_SET_DATA_TYPE, unix.NFTA_SET_DATA_LEN}
	msgs, err := r.raw.Execute(nfMessage(unix.NFT_MSG_GETSET, mdnetlink.Dump, attr(unix.NFTA_SET_TABLE, r.name)))
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for _, m := range msgs {
		a := nfAttributes(m)
		out[unix.ByteSliceToString(a[unix.NFTA_SET_NAME])] = pick(a, keep)
	}
	return out, nil
}

// change is one transaction on the sets.
type change struct{ remove, add []element }

func (c change) empty() bool { return len(c.remove) == 0 && len(c.add) == 0 }

// commit applies the changes in one transaction.
func (r *ruleset) commit(changes ...change) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all change
	for _, c := range changes {
		all.remove = append(all.remove, c.remove...)
		all.add = append(all.add, c.add...)
	}
	if all.empty() {
		return nil
	}
	err := r.queue(all.remove, r.nft.SetDeleteElements)
	if err == nil {
		err = r.queue(all.add, r.nft.SetAddElements)
	}
	if flushErr := r.nft.Flush(); err == nil {
		err = flushErr
	}
	if err != nil {
		r.last = nil
		return fmt.Errorf("change %d and remove %d elements of nft table inet %s: %w", len(all.add), len(all.remove), r.name, err)
	}
	r.follow(all)
	return nil
}

func (r *ruleset) queue(elements []element, send func(*nftables.Set, []nftables.SetElement) error) error {
	bySet := map[*setSpec][]nftables.SetElement{}
	for _, e := range elements {
		bySet[e.Set] = append(bySet[e.Set], nftables.SetElement{Key: []byte(e.Key), KeyEnd: []byte(e.End), Val: []byte(e.Data), Comment: e.Comment})
	}
	for _, s := range elementSets() {
		for part := range slices.Chunk(bySet[s], elementsPerMessage) {
			if err := send(r.set(s.name), part); err != nil {
				return err
			}
		}
	}
	return nil
}

// follow applies our own transaction to the kept reading, if it was the only
// one since.
func (r *ruleset) follow(c change) {
	now, err := r.generation()
	if err != nil || r.last == nil || now != r.last.generation+1 {
		r.last = nil
		return
	}
	r.last = r.last.with(c, now)
}

// load replaces the table by text in one transaction and notes the digest of
// what came of it.
func (r *ruleset) load(ctx context.Context, text string) error {
	if _, err := host.Run(ctx, host.Command{Argv: []string{"nft", "-f", "-"}, Stdin: text}); err != nil {
		return fmt.Errorf("load nft table inet %s: %w", r.name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t, err := r.readLocked()
	if err != nil {
		return err
	}
	note := nftables.SetElement{
		Key: binary.NativeEndian.AppendUint32(nil, uint32(len(t.notes)+1)), Comment: digestKey + "=" + t.digest,
	}
	if err := r.nft.SetAddElements(r.set(aboutSet), []nftables.SetElement{note}); err != nil {
		return err
	}
	if err := r.nft.Flush(); err != nil {
		return fmt.Errorf("note the digest of nft table inet %s: %w", r.name, err)
	}
	return nil
}

// remove deletes the table.
func (r *ruleset) remove() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nft.DelTable(r.table())
	if err := r.nft.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete nft table inet %s: %w", r.name, err)
	}
	return nil
}

func (r *ruleset) table() *nftables.Table {
	return &nftables.Table{Name: r.name, Family: nftables.TableFamilyINet}
}

func (r *ruleset) set(name string) *nftables.Set { return &nftables.Set{Table: r.table(), Name: name} }
