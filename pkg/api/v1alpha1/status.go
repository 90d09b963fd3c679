package v1alpha1

import (
	"slices"
	"time"
)

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

// Good reports whether the condition says that all is well; False is that of the
// conditions that name a trouble.
func (c Condition) Good() bool {
	switch c.Type {
	case ConditionRolledBack, ConditionHeld, ConditionExpiring:
		return c.Status == ConditionFalse
	}
	return c.Status == ConditionTrue
}

// Stale reports whether the condition holds by what was before: what should have
// taken its place, a newer commit, build or certificate, did not come.
func (c Condition) Stale() bool {
	switch c.Type {
	case ConditionFetched, ConditionBuilt, ConditionRouteReady:
		return c.Status == ConditionTrue && c.Reason != "AsDesired"
	}
	return false
}

// underWay are the reasons of what comes up by itself.
var underWay = []string{
	"Progressing", "Fetching", "FetchQueued", "Building", "BuildQueued", "SettingUp", "Dumping", "NotAnswered", "NotStarted", "WaitingForDependency",
}

// UnderWay reports whether the condition says that something comes up by itself:
// it is neither well nor a failure.
func (c Condition) UnderWay() bool { return slices.Contains(underWay, c.Reason) }

// Condition types. Ready is computed from the others.
const (
	ConditionReady          = "Ready"
	ConditionSpecValid      = "SpecValid"
	ConditionFetched        = "Fetched"
	ConditionConfigured     = "Configured"
	ConditionBuilt          = "Built"
	ConditionSecretsReady   = "SecretsReady"
	ConditionDatabaseReady  = "DatabaseReady"
	ConditionNetworkReady   = "NetworkReady"
	ConditionStarted        = "Started"
	ConditionSetUp          = "SetUp"
	ConditionAnswered       = "Answered"
	ConditionRouteReady     = "RouteReady"
	ConditionLimitsEnforced = "LimitsEnforced"
	ConditionRolledBack     = "RolledBack"
	ConditionHeld           = "Held"
	ConditionExpiring       = "Expiring"
	ConditionHostServices   = "HostServices"
)

// Phase is one word for people; programs read conditions.
type Phase string

const (
	PhasePending  Phase = "Pending"
	PhaseFetching Phase = "Fetching"
	PhaseBuilding Phase = "Building"
	PhaseStarting Phase = "Starting"
	PhaseReady    Phase = "Ready"
	PhaseDegraded Phase = "Degraded" // serves, but something is wrong
	PhaseFailed   Phase = "Failed"
	PhaseRejected Phase = "Rejected"
	PhaseDisabled Phase = "Disabled"
	PhasePaused   Phase = "Paused"
	PhaseAsleep   Phase = "Asleep"  // nobody asks for it: the next request starts it
	PhaseExpired  Phase = "Expired" // its ttl is over: it is stopped until its spec goes
	PhaseDeleting Phase = "Deleting"
)

// Resting reports whether somebody asked for the object to stand still, or nobody
// asks for it: that is as it should be.
func (p Phase) Resting() bool {
	return p == PhaseDisabled || p == PhasePaused || p == PhaseAsleep || p == PhaseExpired
}

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
	// ExpiresAt is when its ttl is over.
	ExpiresAt time.Time `json:"expiresAt,omitzero"`
	// AsleepSince is when it was stopped because nobody asked for it.
	AsleepSince time.Time `json:"asleepSince,omitzero"`
	// SSH says how to come in.
	SSH *SSHStatus `json:"ssh,omitempty"`
	// Certificates of the routes' hosts, of the TLS modes files and acme.
	Certificates []CertificateStatus `json:"certificates,omitempty"`
	// Build of the flake that the spec names.
	Build *BuildStatus `json:"build,omitempty"`
	// Repository says how many previews take what they are given from it.
	Repository *RepositoryStatus `json:"repository,omitempty"`
	// Setup of the machine for a revision.
	Setup *SetupStatus `json:"setup,omitempty"`
}

// RepositoryStatus says how many previews there are of a Repository.
type RepositoryStatus struct {
	// Previews that name it, and Max that it may have at a time; 0: as many as their source may have.
	Previews int `json:"previews"`
	Max      int `json:"max,omitempty"`
}

// SSHStatus says how ssh comes into a machine, at its address.
type SSHStatus struct {
	User string `json:"user"`
	// HostKey is the public one, as in a file of known hosts: a type and the key.
	HostKey string `json:"hostKey"`
}

// CertificateStatus says how the certificate of a host stands.
type CertificateStatus struct {
	Host string `json:"host"`
	// NotAfter is when it expires; absent: there is none yet.
	NotAfter time.Time `json:"notAfter,omitzero"`
	// Message is what the authority said last.
	Message string `json:"message,omitempty"`
}

// BuildStatus says how the build of a flake goes, and what it last built.
type BuildStatus struct {
	// Running build, since StartedAt; else when the latest one ended.
	Running   bool      `json:"running,omitempty"`
	StartedAt time.Time `json:"startedAt,omitzero"`
	EndedAt   time.Time `json:"endedAt,omitzero"`
	// Phase of a running build: locking, evaluating, building.
	Phase string `json:"phase,omitempty"`
	// Done of Expected things built or fetched, so far as Nix knows.
	Done     int `json:"done,omitempty"`
	Expected int `json:"expected,omitempty"`
	// Building now, a few names.
	Building []string `json:"building,omitempty"`
	// Log is the end of that of a failed build.
	Log []string `json:"log,omitempty"`
	// StorePath, Locked reference and Revision of what was built last.
	StorePath string    `json:"storePath,omitempty"`
	Locked    string    `json:"locked,omitempty"`
	Revision  string    `json:"revision,omitempty"`
	LockedAt  time.Time `json:"lockedAt,omitzero"`
}

// SetupStatus says how the setup of a machine goes, and what it was last set up for.
type SetupStatus struct {
	// Revision of the latest attempt.
	Revision string `json:"revision"`
	// Running attempt, since StartedAt; else when the latest one ended.
	Running   bool      `json:"running,omitempty"`
	StartedAt time.Time `json:"startedAt,omitzero"`
	EndedAt   time.Time `json:"endedAt,omitzero"`
	// Phase of a running attempt: delivering, setting up, seeding the database, starting.
	Phase string `json:"phase,omitempty"`
	// Log is the end of that of a failed attempt.
	Log []string `json:"log,omitempty"`
	// Done is the revision that was set up last.
	Done string `json:"done,omitempty"`
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

// Ref names the object.
func (i Item) Ref() Ref { return Ref{Kind: i.Kind, Name: i.Metadata.Name} }

// List is what `tekton get -o json` prints.
type List struct {
	Items []Item `json:"items"`
}
