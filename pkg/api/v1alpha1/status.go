package v1alpha1

import "time"

// ConditionStatus is True, False or Unknown.
type ConditionStatus string

const (
	ConditionTrue    ConditionStatus = "True"
	ConditionFalse   ConditionStatus = "False"
	ConditionUnknown ConditionStatus = "Unknown"
)

// Condition is a typed fact about an object.
type Condition struct {
	Type    string          `json:"type"`
	Status  ConditionStatus `json:"status"`
	Reason  string          `json:"reason"`            // CamelCase
	Message string          `json:"message,omitempty"` // no times, no secrets, sorted lists
	// LastTransitionTime is when Status last changed.
	LastTransitionTime time.Time `json:"lastTransitionTime"`
	// NextRetry is when tekton tries again by itself; zero: not before something changes.
	NextRetry time.Time `json:"nextRetry,omitzero"`
}

// Condition types. Ready is computed from the others.
const (
	ConditionReady          = "Ready"
	ConditionSpecValid      = "SpecValid"
	ConditionSecretsReady   = "SecretsReady"
	ConditionDatabaseReady  = "DatabaseReady"
	ConditionNetworkReady   = "NetworkReady"
	ConditionStarted        = "Started"
	ConditionAnswered       = "Answered"
	ConditionRouteReady     = "RouteReady"
	ConditionLimitsEnforced = "LimitsEnforced"
	ConditionRolledBack     = "RolledBack"
	ConditionHeld           = "Held"
	ConditionHostServices   = "HostServices"
)

// Phase is one word for people; programs read conditions.
type Phase string

const (
	PhasePending  Phase = "Pending"
	PhaseStarting Phase = "Starting"
	PhaseReady    Phase = "Ready"
	PhaseDegraded Phase = "Degraded" // serves, but something is wrong
	PhaseFailed   Phase = "Failed"
	PhaseRejected Phase = "Rejected"
	PhaseDisabled Phase = "Disabled"
	PhasePaused   Phase = "Paused"
	PhaseDeleting Phase = "Deleting"
)

// Status is what tekton knows of an object.
type Status struct {
	Phase              Phase       `json:"phase"`
	ObservedGeneration int64       `json:"observedGeneration"`
	Conditions         []Condition `json:"conditions"`
	Machine            string      `json:"machine,omitempty"`
	Slot               int         `json:"slot,omitempty"`
	Address            string      `json:"address,omitempty"`
	URLs               []string    `json:"urls,omitempty"`
	Restarts           int         `json:"restarts,omitempty"`
	StartedAt          time.Time   `json:"startedAt,omitzero"`
}

// SourcePosition is where a spec was written.
type SourcePosition struct {
	Name string `json:"name,omitempty"` // the source
	File string `json:"file"`
	Line int    `json:"line"`
}

// ItemMeta is the metadata of a stored object.
type ItemMeta struct {
	Name        string            `json:"name"`
	UID         string            `json:"uid"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Generation  int64             `json:"generation"`
	Source      SourcePosition    `json:"source"`
}

// Item is an object with its status, as the daemon's API shows it.
type Item struct {
	TypeMeta `json:",inline"`
	Metadata ItemMeta `json:"metadata"`
	// Spec with defaults; of a rejected object, null.
	Spec   any    `json:"spec"`
	Status Status `json:"status"`
}

// List is what `tekton get -o json` prints.
type List struct {
	Items []Item `json:"items"`
}
