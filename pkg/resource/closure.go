package resource

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// Closure is what an attribute of a flake builds to, kept from the garbage
// collector. Building is a job. Name = Closure.Name.
type Closure struct {
	Flake string `json:"flake"` // REF#ATTR
	// Config is the text of a preview-config.nix, a stranger's. The attribute is then
	// a function, which makes of such a file what config.system.build is.
	Config string `json:"config,omitempty"`
	// Fetch lets derivations of Config be built that load something (fixed outputs).
	Fetch bool `json:"fetch,omitempty"`
	// Trusted code may build while it is evaluated (import from derivation).
	Trusted bool `json:"trusted,omitempty"`
	// Attempt counts the builds that were asked for; a higher one builds again.
	Attempt int `json:"attempt"`

	// Of the attempt; not compared.
	Deadline Duration `json:"deadline,omitzero"`
	Limits   Limits   `json:"limits,omitzero"`

	// Build is observed only.
	Build Build `json:"build,omitzero"`
	// Unrooted is observed only: the result is not kept from the garbage
	// collector any more, or is gone.
	Unrooted bool `json:"unrooted,omitempty"`
}

// Build is how the latest attempt goes, and the latest one that succeeded.
type Build struct {
	Job
	Progress Progress `json:"progress,omitzero"`
	Result   Built    `json:"result,omitzero"`
}

// Progress is how far a build is.
type Progress struct {
	Phase    string `json:"phase,omitempty"` // locking, evaluating, building
	Done     int    `json:"done,omitempty"`
	Expected int    `json:"expected,omitempty"`
	// Building is what is built or fetched now, sorted, a few of it.
	Building []string `json:"building,omitempty"`
}

// Built is the result of a build.
type Built struct {
	StorePath string `json:"storePath,omitempty"`
	// Locked is the flake's reference as it was resolved: the same one always
	// gives the same result.
	Locked   string    `json:"locked,omitempty"`
	Revision string    `json:"revision,omitempty"` // of a repository
	LockedAt time.Time `json:"lockedAt,omitzero"`
	// Meta is what the previewMeta of a Config holds.
	Meta string `json:"meta,omitempty"`
}

// MaxPreviewMeta is the size of a previewMeta.
const MaxPreviewMeta = 64 << 10

// Name of the closure: of what determines what it is.
func (v Closure) Name() string {
	if v.Config == "" {
		return ClosureName(v.Flake, v.Trusted)
	}
	return ClosureName(strings.Join([]string{v.Flake, strconv.FormatBool(v.Fetch), v.Config}, "\x00"), false)
}

// ClosureName is the name of the closure of a flake.
func ClosureName(flake string, trusted bool) string {
	if trusted {
		flake += "\x00trusted"
	}
	sum := sha256.Sum256([]byte(flake))
	return hex.EncodeToString(sum[:8])
}

func (Closure) Kind() Kind { return KindClosure }

// Work is how building goes.
func (v Closure) Work() (attempt int, how Job) { return v.Attempt, v.Build.Job }

// Equal compares which build was asked for; how it goes is no difference.
func (v Closure) Equal(o Value) bool {
	w, ok := o.(Closure)
	return ok && v.Flake == w.Flake && v.Config == w.Config && v.Fetch == w.Fetch && v.Trusted == w.Trusted && v.Attempt == w.Attempt && v.Unrooted == w.Unrooted
}
