package setup

import (
	"slices"
	"time"

	"tekton.host/pkg/resource"
)

// state is what attempts have done so far, kept from one to the next.
type state struct {
	// Done is the setup that succeeded last.
	Done   *resource.Setup `json:"done,omitempty"`
	DoneAt time.Time       `json:"doneAt,omitzero"`
	// Begun is the one whose work was begun last: where that is another one, not
	// all of Done's is there any more.
	Begun *resource.Setup `json:"begun,omitempty"`
	// Started is the one with which all services were last started.
	Started *resource.Setup `json:"started,omitempty"`
	// Starts counts how often they were, over all of the machine's attempts: two of
	// them may be one attempt's. Older versions wrote the attempt's number instead,
	// which this one goes on from.
	Starts int `json:"startedBy,omitempty"`
	// Tried is the one with which that was last tried.
	Tried *resource.Setup `json:"tried,omitempty"`
	// Seeded is the OID of the database that was seeded last.
	Seeded uint32 `json:"seeded,omitempty"`
}

// started notes that all services were started with a setup.
func (s *state) started(with *resource.Setup) {
	s.Started = with
	s.Starts++
}

// todo is what an attempt does beside delivering the files.
type todo struct {
	// recover starts the services of what was set up before, since the machine
	// has started anew: they run, whatever comes of the setup.
	recover bool
	work    bool // checkout and setup
	keep    bool // what was set up before, should the work fail
	seed    bool // of the database, as the end of the work
	start   bool
	// again: services that run were restarted already.
	again bool
}

// plan decides what is to be done.
func (s state) plan(want resource.Setup) todo {
	var t todo
	fresh := s.Done == nil || want.Ephemeral && s.Done.Boot != want.Boot
	t.work = fresh || !s.Done.SameWork(want) || s.Begun != nil && !s.Begun.SameWork(want)
	t.keep = t.work && !fresh
	t.seed = t.work && want.Database != nil && want.Database.Seed != "" && s.Seeded != want.Database.OID
	t.start = t.work || !sameStart(s.Started, want)
	t.recover = t.keep && (s.Started == nil || s.Started.Boot != want.Boot)
	t.again = !t.work && sameStart(s.Tried, want)
	return t
}

// sameStart reports whether services were started with what they would be now.
func sameStart(have *resource.Setup, want resource.Setup) bool {
	return have != nil && have.SameWork(want) && cold(*have).SameStart(cold(want))
}

// cold leaves out the files that services read again by themselves.
func cold(s resource.Setup) resource.Setup {
	s.Files = slices.DeleteFunc(slices.Clone(s.Files), func(f resource.SetupFile) bool { return f.Hot })
	return s
}
