package v1alpha1

import "encoding/json"

// PlanAction is what a plan does to an object.
type PlanAction string

const (
	PlanCreate  PlanAction = "create"
	PlanUpdate  PlanAction = "update"
	PlanDelete  PlanAction = "delete"
	PlanRestart PlanAction = "restart" // the spec is the same, the machine is not as it should be
	PlanNone    PlanAction = "none"
)

// PlanClass is what a change means for the running machine.
type PlanClass string

const (
	PlanHot         PlanClass = "hot"      // the machine keeps running
	PlanServices    PlanClass = "services" // the same, and its services start again
	PlanSetup       PlanClass = "setup"    // the same, after another checkout and setup
	PlanRestarts    PlanClass = "restart"  // the machine starts anew in the same instance
	PlanReplacement PlanClass = "replace"  // a new instance takes over
)

// PlanReport is the plan that the daemon would carry out, as people and programs read it.
type PlanReport struct {
	// Objects, sorted by kind and name; also those that do not change.
	Objects []PlanObject `json:"objects"`
	// Warnings that belong to no object.
	Warnings []string `json:"warnings,omitempty"`
}

// Changes reports whether the plan does anything.
func (r PlanReport) Changes() bool {
	for _, o := range r.Objects {
		if o.Action != PlanNone {
			return true
		}
	}
	return false
}

// PlanObject is the part of a plan that concerns one object.
type PlanObject struct {
	Kind   string         `json:"kind"`
	Name   string         `json:"name"`
	Source SourcePosition `json:"source,omitzero"`
	Action PlanAction     `json:"action"`
	// Class of an update or restart.
	Class PlanClass `json:"class,omitempty"`
	// Strategy of a restart or replacement: Overlap, Recreate.
	Strategy string      `json:"strategy,omitempty"`
	Fields   []PlanField `json:"fields,omitempty"`
	Data     []PlanData  `json:"data,omitempty"`
	// Steps in the order of their execution, one a line.
	Steps    []string `json:"steps,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// Restarts reports whether the object's machine ends and another start follows.
func (o PlanObject) Restarts() bool {
	return o.Class == PlanRestarts || o.Class == PlanReplacement || o.Action == PlanRestart
}

// PlanField is one field that changes. A value that is absent is nil; of a
// secret it is a keyed digest.
type PlanField struct {
	Path string          `json:"path"`
	Old  json.RawMessage `json:"old,omitempty"`
	New  json.RawMessage `json:"new,omitempty"`
}

// DataEffect is what happens to data.
type DataEffect string

const (
	DataKept     DataEffect = "kept"
	DataCreated  DataEffect = "created"
	DataTrashed  DataEffect = "trashed"  // restorable until the trash time is over
	DataRetained DataEffect = "retained" // left for a later object of the same kind and name
	DataAdopted  DataEffect = "adopted"  // left by an earlier object
	DataDumped   DataEffect = "dumped"   // kept, and a dump of it goes to the trash first
)

// DataKind is volume or database.
type DataKind string

const (
	DataVolume   DataKind = "volume"
	DataDatabase DataKind = "database"
)

// PlanData is what happens to one volume or database.
type PlanData struct {
	What   DataKind   `json:"what"`
	Name   string     `json:"name"`
	Effect DataEffect `json:"effect"`
}
