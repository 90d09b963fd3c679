package source

import (
	"time"

	"tekton.host/pkg/spec"
)

// Snapshot is all that a source wants at one moment. It is the only truth
// about what is wanted.
type Snapshot struct {
	Source   string
	Revision string // changes when anything below does, but for the times
	// Complete is false when something could not be read: then nothing that is
	// missing from Objects may be taken for removed.
	Complete bool
	// Marked reports whether the directory carries our .tekton-source marker.
	Marked  bool
	Objects []spec.Object
	// Problems of files and documents. A document with a problem is not in
	// Objects; its Kind and Name, where known, say whose last good spec stays.
	Problems []spec.Problem
	// Files that exist and were considered, also the broken and the pending ones, sorted.
	Files []string
	// Unsettled files are being written; their objects are not in Objects and
	// their last good content stays.
	Unsettled []string
	// ReadAt is when the reading began. Two snapshots with the same Revision
	// and different ReadAt are two equal reads.
	ReadAt time.Time
	// RetryAfter asks for another snapshot after this time, because of
	// Unsettled files whose end no event will announce; 0 asks for nothing.
	RetryAfter time.Duration
	// Err says why the source as a whole could not be read.
	Err error
}
