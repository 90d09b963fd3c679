package compile

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/preview"
	"tekton.host/pkg/resource"
)

// Keys of the ledger.
const (
	objectPrefix     = "object/"     // object/NAME or, of a kind without a machine, object/KIND/NAME → ObjectRecord
	tombstonePrefix  = "tombstone/"  // tombstone/UID → TombstoneRecord
	instancePrefix   = "instance/"   // instance/UID/ORDINAL → InstanceRecord
	slotPrefix       = "slot/"       // slot/N → SlotRecord
	routePrefix      = "route/"      // route/HOST/PATH → nothing; the owner is the claim
	portPrefix       = "port/"       // port/IP:PORT/PROTO → nothing
	dataPrefix       = "data/"       // data/volume/NAME, data/database/NAME → DataRecord
	rolledBackPrefix = "rolledback/" // rolledback/UID → RolledBackRecord, of older versions
)

// SysctlKey is the ledger's key of a changed kernel setting.
func SysctlKey(name string) string { return "sysctl/" + name }

// SysctlRecord keeps the value that a setting had before we changed it.
type SysctlRecord struct {
	Original string `json:"original"`
}

// ObjectRecord is what the ledger knows of an object: its identity over renames
// of its file and restarts of the daemon, and its last good spec.
type ObjectRecord struct {
	UID        string          `json:"uid"`
	Kind       string          `json:"kind"`
	Name       string          `json:"name"`
	Source     string          `json:"source"`
	File       string          `json:"file"`
	Line       int             `json:"line"`
	Generation int64           `json:"generation"`
	Digest     string          `json:"digest"`
	Object     json.RawMessage `json:"object"`
	// Document is the digest of what was written, where the object has more: a
	// preview with what its Repository gives it.
	Document string `json:"document,omitempty"`
	// Restart counts `tekton restart` requests.
	Restart int64 `json:"restart,omitempty"`
}

// Written is the digest of the document.
func (r ObjectRecord) Written() string { return cmp.Or(r.Document, r.Digest) }

// TombstoneRecord says that an object's deletion was asked for and goes on
// until nothing of it is left, also over restarts of the daemon.
type TombstoneRecord struct {
	ObjectRecord
	Why string `json:"why"`
}

// InstanceRecord is one incarnation of an object.
type InstanceRecord struct {
	Ordinal     int    `json:"ordinal"`
	Slot        int    `json:"slot"`
	Fingerprint string `json:"fingerprint"`
	// Flake that the system was built from, and what it was built to.
	Flake     string `json:"flake,omitempty"`
	StorePath string `json:"storePath,omitempty"`
	// Object that this incarnation was made for: a rollback returns to it.
	Object json.RawMessage `json:"object"`
	// Revision of the repository that a preview was made for.
	Revision *preview.Revision `json:"revision,omitempty"`
	// Served is the one before, whose services run as long as the machine is not set
	// up for Revision: its ports are those to ask and to lead to.
	Served *preview.Revision `json:"served,omitempty"`
	// RolledBack is the update that failed, and from which this one serves again.
	RolledBack *RolledBackRecord `json:"rolledBack,omitempty"`
	// Container is the name of the NixOS container that the incarnation is.
	Container string `json:"container,omitempty"`
	// Previous is what a container was before an update in place that has not
	// answered yet.
	Previous *Previous `json:"previous,omitempty"`
}

// Previous is a state that a container can be taken back to.
type Previous struct {
	Fingerprint string          `json:"fingerprint"`
	Flake       string          `json:"flake,omitempty"`
	StorePath   string          `json:"storePath,omitempty"`
	Object      json.RawMessage `json:"object"`
}

// SlotRecord is a slot in use, or, with Freed set, one that cools down.
type SlotRecord struct {
	Machine string    `json:"machine"`
	Freed   time.Time `json:"freed,omitzero"`
}

// DataRecord remembers which object and source data belongs to, also after the
// object is gone.
type DataRecord struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Source string `json:"source"`
}

// RolledBackRecord says that an update failed and which one.
type RolledBackRecord struct {
	Fingerprint string `json:"fingerprint"`
	Reason      string `json:"reason"`
	Message     string `json:"message"`
}

// ObjectKey is the ledger's key of an object.
func ObjectKey(kind, name string) string { return objectPrefix + v1alpha1.UniqueName(kind, name) }

// IsObject reports whether a key of the ledger is that of an object of a name, of
// whatever kind.
func IsObject(key, name string) bool {
	rest, is := strings.CutPrefix(key, objectPrefix)
	return is && rest[strings.LastIndex(rest, "/")+1:] == name
}

// DataKey is the ledger's key of a volume or database, by its resource.
func DataKey(id resource.ID) string { return dataPrefix + string(id.Kind) + "/" + id.Name }

// TombstoneKey is the ledger's key of a deletion.
func TombstoneKey(uid string) string { return tombstonePrefix + uid }

// NewUID derives the UID of a new object. now makes it differ from that of an
// earlier object of the same name.
func NewUID(installation, kind, name string, now time.Time) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{installation, kind, name, strconv.FormatInt(now.UnixNano(), 10)}, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// claim builds the desired ledger entry of a record.
func claim(key, owner string, record any) resource.Resource {
	var raw json.RawMessage
	if record != nil {
		// Records are plain structs: marshalling cannot fail.
		raw, _ = json.Marshal(record)
	}
	return resource.New(owner, "", key, resource.Claim{Key: key, Owner: owner, Value: raw})
}

// Claims is the ledger's content, indexed.
type Claims struct {
	All        map[string]resource.Claim
	ByUID      map[string]ObjectRecord    // by UID
	Tombstones map[string]TombstoneRecord // by UID
	Instances  map[string][]InstanceRecord
	Slots      map[int]SlotRecord
	RolledBack map[string]RolledBackRecord
	Data       map[string]DataRecord // by key without prefix
	TTL        map[string]TTLRecord  // by UID
	// records are the decoded values of All.
	records map[string]any
}

// ReadClaims indexes the entries of the ledger. An entry that cannot be read is
// an error of the whole: planning on half a ledger could give a name, a slot or
// data away twice.
func ReadClaims(entries []resource.Claim) (Claims, error) { return Claims{}.Next(entries) }

// CountSlots tells how many slots are in use and how many cool down.
func CountSlots(entries []resource.Claim) (used, cooling int) {
	for _, e := range entries {
		if !strings.HasPrefix(e.Key, slotPrefix) {
			continue
		}
		if r, err := into[SlotRecord](e.Value); err == nil && r.(SlotRecord).Freed.IsZero() {
			used++
		} else {
			cooling++
		}
	}
	return used, cooling
}

// Next is ReadClaims for a ledger of which c was read before: what has not
// changed since is not decoded again.
func (last Claims) Next(entries []resource.Claim) (Claims, error) {
	c := Claims{
		All: make(map[string]resource.Claim, len(entries)), ByUID: map[string]ObjectRecord{},
		Tombstones: map[string]TombstoneRecord{}, Instances: map[string][]InstanceRecord{}, Slots: map[int]SlotRecord{},
		RolledBack: map[string]RolledBackRecord{}, Data: map[string]DataRecord{}, TTL: map[string]TTLRecord{}, records: make(map[string]any, len(entries)),
	}
	for _, e := range entries {
		c.All[e.Key] = e
		record, known := last.records[e.Key]
		if !known || !bytes.Equal(last.All[e.Key].Value, e.Value) {
			var err error
			if record, err = decodeRecord(e); err != nil {
				return Claims{}, fmt.Errorf("ledger entry %q: %w", e.Key, err)
			}
		}
		if err := c.add(e, record); err != nil {
			return Claims{}, fmt.Errorf("ledger entry %q: %w", e.Key, err)
		}
	}
	for uid, records := range c.Instances {
		slices.SortFunc(records, func(a, b InstanceRecord) int { return cmp.Compare(a.Ordinal, b.Ordinal) })
		for _, r := range records {
			if r.RolledBack != nil {
				c.RolledBack[uid] = *r.RolledBack
			}
		}
	}
	return c, nil
}

// decodeRecord decodes an entry's value; nil when its key alone says all.
func decodeRecord(e resource.Claim) (any, error) {
	prefix, _, _ := strings.Cut(e.Key, "/")
	switch prefix + "/" {
	case objectPrefix:
		return into[ObjectRecord](e.Value)
	case tombstonePrefix:
		return into[TombstoneRecord](e.Value)
	case instancePrefix:
		return into[InstanceRecord](e.Value)
	case rolledBackPrefix:
		return into[RolledBackRecord](e.Value)
	case dataPrefix:
		return into[DataRecord](e.Value)
	case slotPrefix:
		return into[SlotRecord](e.Value)
	case ttlPrefix:
		return into[TTLRecord](e.Value)
	}
	return nil, nil
}

func into[T any](raw json.RawMessage) (any, error) {
	var v T
	err := json.Unmarshal(raw, &v)
	return v, err
}

// add indexes a decoded entry.
func (c *Claims) add(e resource.Claim, record any) error {
	c.records[e.Key] = record
	_, rest, _ := strings.Cut(e.Key, "/")
	switch r := record.(type) {
	case ObjectRecord:
		c.ByUID[r.UID] = r
	case TombstoneRecord:
		c.Tombstones[rest] = r
	case InstanceRecord:
		c.Instances[e.Owner] = append(c.Instances[e.Owner], r)
	case RolledBackRecord:
		c.RolledBack[rest] = r
	case DataRecord:
		c.Data[rest] = r
	case TTLRecord:
		c.TTL[rest] = r
	case SlotRecord:
		n, err := strconv.Atoi(rest)
		if err != nil {
			return err
		}
		c.Slots[n] = r
	}
	return nil
}

// says reports whether the entry of a key holds the record already.
func (c *Claims) says(key, owner string, record any) bool {
	e, found := c.All[key]
	if !found || e.Owner != owner {
		return false
	}
	if record == nil {
		return len(e.Value) == 0
	}
	return reflect.DeepEqual(c.records[key], record)
}

// SysctlValue is the ledger's entry of a setting's original value.
func SysctlValue(original string) json.RawMessage {
	raw, _ := json.Marshal(SysctlRecord{Original: original})
	return raw
}

// SysctlOriginals are the recorded values by setting.
func SysctlOriginals(entries []resource.Claim) map[string]string {
	out := map[string]string{}
	for _, e := range entries {
		name, isSysctl := strings.CutPrefix(e.Key, SysctlKey(""))
		if !isSysctl {
			continue
		}
		var r SysctlRecord
		if json.Unmarshal(e.Value, &r) == nil {
			out[name] = r.Original
		}
	}
	return out
}
