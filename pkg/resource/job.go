package resource

import "time"

// Job is how work outside of any step goes: its latest attempt. Putting its
// resource begins an attempt, observing it tells how that goes.
type Job struct {
	Running   bool      `json:"running,omitempty"`
	StartedAt time.Time `json:"startedAt,omitzero"`
	EndedAt   time.Time `json:"endedAt,omitzero"`
	// Reason and Message say why the latest attempt failed; Log is its end.
	Reason  string   `json:"reason,omitempty"`
	Message string   `json:"message,omitempty"`
	Log     []string `json:"log,omitempty"`
	// Failures since the last success.
	Failures int `json:"failures,omitempty"`
}

// Worked is the value of a resource that is made by a job, in attempts.
type Worked interface {
	Value
	Work() (attempt int, how Job)
}
