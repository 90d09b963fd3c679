package v1alpha1

import (
	"encoding/json"
	"time"
)

// EventType says whether somebody should look at an event.
type EventType string

const (
	EventNormal  EventType = "Normal"
	EventWarning EventType = "Warning"
)

// Event is one thing that happened to an object, or to a source: kind Source.
type Event struct {
	// Seq numbers the events of a host without gaps.
	Seq    int64     `json:"seq"`
	Time   time.Time `json:"time"`
	Type   EventType `json:"type"`
	Object Ref       `json:"object"`
	UID    string    `json:"uid,omitempty"`
	Reason string    `json:"reason"` // CamelCase
	// Message says what and why, without secrets.
	Message string `json:"message,omitempty"`
	// By is who caused it, the source and position of a spec; empty: tekton itself.
	By string `json:"by,omitempty"`
}

// Generation is what an object's spec was from a time on.
type Generation struct {
	Generation int64 `json:"generation"`
	// Time when it was first seen.
	Time   time.Time      `json:"time"`
	Source SourcePosition `json:"source"`
	// Document holds spec, metadata.labels and metadata.annotations.
	Document json.RawMessage `json:"document"`
}
