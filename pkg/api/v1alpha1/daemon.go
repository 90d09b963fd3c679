package v1alpha1

import (
	"strings"
	"time"
)

// Ref names an object.
type Ref struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// String is the reference as the command line writes it: "container/web".
func (r Ref) String() string { return strings.ToLower(r.Kind) + "/" + r.Name }

// File is a spec file on its way to the daemon. Name appears in positions.
type File struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// ApplyAction is what became of an applied document.
type ApplyAction string

const (
	ApplyCreated    ApplyAction = "created"
	ApplyConfigured ApplyAction = "configured"
	ApplyUnchanged  ApplyAction = "unchanged"
)

// ApplyResult is what became of one applied document.
type ApplyResult struct {
	Ref        `json:",inline"`
	Action     ApplyAction    `json:"action"`
	Generation int64          `json:"generation"`
	Source     SourcePosition `json:"source"`
	Warnings   []string       `json:"warnings,omitempty"`
}

// DeleteResult says what a deletion does to the object's data.
type DeleteResult struct {
	Ref      `json:",inline"`
	UID      string     `json:"uid"`
	Data     []PlanData `json:"data,omitempty"`
	Warnings []string   `json:"warnings,omitempty"`
}

// SourceStatus is what tekton knows of a source.
type SourceStatus struct {
	Name string `json:"name"`
	// Path of the directory; in the repository, where there is Git.
	Path     string `json:"path,omitempty"`
	Revision string `json:"revision,omitempty"`
	Objects  int    `json:"objects"`
	// Complete is false while something could not be read; nothing is deleted then.
	Complete bool `json:"complete"`
	// Message says why it is not complete or why it holds.
	Message string `json:"message,omitempty"`
	// Held are the objects whose deletion waits for `tekton release-deletes`.
	Held      []Ref     `json:"held,omitempty"`
	HeldSince time.Time `json:"heldSince,omitzero"`
	// Unsettled files are being written.
	Unsettled []string `json:"unsettled,omitempty"`
	// Git says where a source that is a repository stands.
	Git *GitStatus `json:"git,omitempty"`
}

// GitStatus is where a git source stands.
type GitStatus struct {
	URL    string `json:"url"`
	Branch string `json:"branch"`
	// Commit whose specs are in effect, and when it was made.
	Commit      string    `json:"commit,omitempty"`
	CommittedAt time.Time `json:"committedAt,omitzero"`
	// Rejected is a newer commit that is not used; Error says why.
	Rejected string `json:"rejected,omitempty"`
	// SyncedAt is when the remote was last reached by this daemon.
	SyncedAt time.Time `json:"syncedAt,omitzero"`
	// Error is why the branch's newest commit is not in effect.
	Error string `json:"error,omitempty"`
	// Suspended sources are not looked at until they are resumed.
	Suspended bool `json:"suspended,omitempty"`
}

// SecretInfo is what may be said about a secret: never its value.
type SecretInfo struct {
	Name      string    `json:"name"`
	UpdatedAt time.Time `json:"updatedAt,omitzero"`
	// UsedBy are the objects whose credentials name it.
	UsedBy []Ref `json:"usedBy,omitempty"`
}

// DataState says where data stands.
type DataState string

const (
	DataInUse   DataState = "in-use"
	DataLeft    DataState = "retained"
	DataInTrash DataState = "trash"
)

// DataItem is one volume or database, with or without an object.
type DataItem struct {
	// ID names the item in `tekton data restore|delete`.
	ID    string    `json:"id"`
	Owner Ref       `json:"owner"`
	What  DataKind  `json:"what"`
	Name  string    `json:"name"`
	State DataState `json:"state"`
	// Size in bytes; 0: not known.
	Size int64 `json:"size,omitempty"`
	// DeletedAt and ExpiresAt of data in the trash.
	DeletedAt time.Time `json:"deletedAt,omitzero"`
	ExpiresAt time.Time `json:"expiresAt,omitzero"`
	// Message says what is wrong with it.
	Message string `json:"message,omitempty"`
}

// BackupInfo says what a backup of this host is made of.
type BackupInfo struct {
	// Host is the configuration that the daemon runs with.
	Host HostSpec `json:"host"`
	// HostFile is a file that says so.
	HostFile []byte `json:"hostFile"`
	// Databases of objects, and those that are retained.
	Databases []string `json:"databases,omitempty"`
}

// DumpProgress is how far the dump of a database for a backup is.
type DumpProgress struct {
	Done bool `json:"done,omitempty"`
	// Written bytes of the dump.
	Written int64 `json:"written,omitempty"`
	// Size of the database in bytes, which are more than its dump will have.
	Size int64 `json:"size,omitempty"`
}

// LogOptions select the part of a machine's log.
type LogOptions struct {
	// Follow the log until the reader is closed.
	Follow bool `json:"follow,omitempty"`
	// Tail is the number of last lines; negative: all that is kept.
	Tail int `json:"tail,omitempty"`
	// Since leaves out what was written before, to the second.
	Since time.Time `json:"since,omitzero"`
	// Previous selects what was written before the present start: by an earlier
	// one, or by another incarnation of the object, whichever was last.
	Previous bool `json:"previous,omitempty"`
	// Build selects the log of the builds of the object's flake.
	Build bool `json:"build,omitempty"`
	// Setup selects the log of the setups of the object's machine.
	Setup bool `json:"setup,omitempty"`
	// Console selects, of a machine that boots, what it wrote on its console
	// instead of its journal; others have no journal.
	Console bool `json:"console,omitempty"`
}

// VersionInfo says what a program is.
type VersionInfo struct {
	Version      string `json:"version"`
	GoVersion    string `json:"goVersion"`
	APIVersion   string `json:"apiVersion"`
	Installation string `json:"installation,omitempty"`
	Instance     string `json:"instance,omitempty"`
}

// WatchType is what a watch event says.
type WatchType string

const (
	// WatchPut carries an object that is new or has changed.
	WatchPut WatchType = "put"
	// WatchDelete carries the last state of an object that is gone.
	WatchDelete WatchType = "delete"
	// WatchSynced follows the last of the objects that were there at the beginning.
	WatchSynced WatchType = "synced"
)

// WatchEvent is one change of one object.
type WatchEvent struct {
	Type WatchType `json:"type"`
	Item *Item     `json:"item,omitempty"`
}
