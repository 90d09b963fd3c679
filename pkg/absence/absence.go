package absence

import (
	"time"

	"tekton.host/pkg/source"
)

const (
	// ConfirmAfter is the least time between the two reads that must agree
	// before an explicit removal takes data with it. Longer than any editor
	// needs between truncating a file and closing it.
	ConfirmAfter = 20 * time.Millisecond
	// VanishAfter is how long a file must be gone: editors, rsync and git
	// remove files for moments only.
	VanishAfter = 2 * time.Second
	// Window within which vanished objects count together, and the longest that
	// a removal waits for another file that is just being written and may be
	// the object's new place.
	Window = 10 * time.Second

	// BrakeMin objects may always vanish within Window.
	BrakeMin = 3
	// DirectoryPercent of a directory's objects may vanish within Window,
	// GitPercent of those of a git commit, which is deliberate.
	DirectoryPercent = 30
	GitPercent       = 50
)

// Known is an object that the ledger knows.
type Known struct {
	UID    string
	Kind   string
	Name   string
	Source string
	File   string // where it was last read, as in Snapshot.Files
	// Data says that its removal would take data with it (a volume or database
	// under the policy Delete): then an explicit removal is confirmed first.
	Data bool
}

// Source is a configured source.
type Source struct {
	Name string
	// Percent of its objects that may vanish within Window; 0: DirectoryPercent.
	Percent int
}

// Input of Judge.
type Input struct {
	// Now is used only for sources whose snapshots carry no ReadAt.
	Now time.Time
	// Sources that are configured.
	Sources []Source
	// Snapshots by source; one that was not read yet is missing.
	Snapshots map[string]source.Snapshot
	Known     []Known
	// Requests are UIDs whose deletion was asked for (`tekton delete`, a closed
	// pull request, a time to live).
	Requests map[string]bool
	// Releases are the UIDs, by source, of holds that were released.
	Releases map[string]map[string]bool
	State    State
}

// State is what a judgement remembers for the next. The zero value remembers
// nothing: then every clock starts anew, but so do holds and what the brake has
// counted. Durable is the part to keep over restarts.
type State struct {
	// Missing objects by UID: those of Known, and those that vanished within the
	// last Window and were let go, which still count for the brake.
	Missing map[string]Missing `json:"missing,omitempty"`
}

// Durable is what must outlive the daemon: holds, and what was let go and still
// counts for the brake. Clocks are not in it: nobody has looked meanwhile, so
// each wait begins anew with the first read.
func (s State) Durable() State {
	out := State{Missing: map[string]Missing{}}
	for uid, m := range s.Missing {
		if m.Braked || m.LetGo && m.Vanished {
			out.Missing[uid] = m.asleep()
		}
	}
	return out
}

// asleep is an entry over a time in which the source was not read.
func (m Missing) asleep() Missing {
	m.Clear, m.Writing = time.Time{}, time.Time{}
	m.Since = m.Since.Round(0) // as it is written down: without the process's own clock
	return m
}

// Missing is what is remembered of an object that is not in its source.
type Missing struct {
	Source string `json:"source"`
	// Since is the first read without it.
	Since time.Time `json:"since"`
	// Clear is the first read that was sure of it; zero while there is a doubt.
	Clear time.Time `json:"clear,omitzero"`
	// Vanished: its file is gone, too.
	Vanished bool `json:"vanished,omitempty"`
	// Braked: too many vanished at once; it stays held until it is released or back.
	Braked bool `json:"braked,omitempty"`
	// Writing is the first of the last reads without a break in which some file
	// was being written that may be its new place.
	Writing time.Time `json:"writing,omitzero"`
	// LetGo: it was judged Absent. Once it is not known any more it still counts
	// for the brake.
	LetGo bool `json:"letGo,omitempty"`
}

// Decision about one object.
type Decision string

const (
	Present Decision = "Present" // its source wants it
	Hold    Decision = "Hold"    // nobody knows: its last good spec stays
	Absent  Decision = "Absent"  // it was removed
)

// Reasons of verdicts and holds.
const (
	// Absent:
	ReasonRequested = "Requested" // its deletion was asked for
	ReasonReleased  = "Released"  // its hold was released
	ReasonRemoved   = "Removed"   // its document was removed from its file
	ReasonVanished  = "Vanished"  // its file was removed

	// Hold of one object:
	ReasonConfirming  = "Confirming"  // missing, but not for long enough
	ReasonFilePending = "FilePending" // its file is being written
	ReasonFileProblem = "FileProblem" // its file or document has a problem

	// Hold of a source, and of its objects:
	ReasonSourceGone       = "SourceGone"       // it is no longer configured
	ReasonSourceUnread     = "SourceUnread"     // it was not read yet
	ReasonSourceUnreadable = "SourceUnreadable" // it could not be read whole
	ReasonSourceEmpty      = "SourceEmpty"      // nothing shows that it is the same directory
	ReasonMassDelete       = "MassDelete"       // too much vanished at once
)

// Verdict on one object.
type Verdict struct {
	Decision Decision
	Reason   string
	Message  string
}

// SourceHold says that a source holds objects, and until when.
type SourceHold struct {
	UIDs    []string // sorted; what `tekton release-deletes` releases
	Reason  string
	Message string
}

// Output of Judge.
type Output struct {
	Verdicts map[string]Verdict // by UID; one for each of Known
	Holds    map[string]SourceHold
	// Lapsed are releases, by source, that have no use any more: their objects
	// are back, or forgotten. Drop them, or they would work a second time.
	Lapsed map[string][]string
	State  State
	// NextWake is when to judge again though nothing happens, after reading the
	// sources in Reread anew; zero: never.
	NextWake time.Time
	Reread   []string // sorted
}
