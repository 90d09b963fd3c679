package resource

import (
	"slices"
	"time"
)

// Setup is what has to be done once inside a running machine for a revision:
// deliver files, replace a checkout, run a setup and then (re)start services. It
// is a job. Name = machine name.
//
// What differs from the attempt before decides how much is done. A new Boot, files
// that are not Hot, or other services: the files are delivered and the services
// started. Hot files alone are only delivered. Anything else: all of it.
type Setup struct {
	Revision string `json:"revision"`
	// Generation asks for a whole setup of the same revision: a higher one runs again.
	Generation int64 `json:"generation,omitempty"`
	// Attempt counts those of one revision and generation; a higher one tries again.
	Attempt int `json:"attempt"`
	// Boot of the unit that is set up. Services start again in each.
	Boot string `json:"boot"`

	Files    []SetupFile    `json:"files,omitempty"`
	Checkout *SetupCheckout `json:"checkout,omitempty"`
	// At most one of Unit and Command is the setup itself.
	Unit    string   `json:"unit,omitempty"`    // of the machine's systemd, oneshot
	Command []string `json:"command,omitempty"` // with the environment of the machine's own command
	User    string   `json:"user,omitempty"`    // of the command: a name of the machine's passwd, or UID[:GID]; "": root
	WorkDir string   `json:"workDir,omitempty"` // of the command
	// Database that the setup works with; nil: none.
	Database *SetupDatabase `json:"database,omitempty"`
	// Services are units of the machine's systemd, (re)started in this order
	// after a setup that succeeded.
	Services []string `json:"services,omitempty"`
	// Boots: the machine's first process is a systemd.
	Boots bool `json:"boots,omitempty"`
	// Ephemeral: the root is new at each start, so that each one needs all of it.
	Ephemeral bool `json:"ephemeral,omitempty"`

	// Of the attempt; not compared.
	Deadline Duration `json:"deadline"`
	Limits   Limits   `json:"limits,omitzero"` // of the command

	// Run is observed only.
	Run SetupRun `json:"run,omitzero"`
}

// SetupFile is a file inside, below /etc, /run, /tmp or a home, replaced atomically.
// Its content is Content; or, where there are any, that of the secret without
// Env; or variables as both a shell and systemd's EnvironmentFile read them.
type SetupFile struct {
	Path    string `json:"path"`
	Mode    uint32 `json:"mode"`           // permission bits
	User    string `json:"user,omitempty"` // a name of the machine's passwd, or UID[:GID]; "": root
	Content string `json:"content,omitempty"`
	// Environment is KEY=VALUE, sorted.
	Environment []string `json:"environment,omitempty"`
	Secrets     []Secret `json:"secrets,omitempty"`
	// Hot: what uses the file reads it again by itself.
	Hot bool `json:"hot,omitempty"`
	// Signal: it tells the setup something, and is delivered only before one runs.
	Signal bool `json:"signal,omitempty"`
}

// SetupCheckout is the tree of a commit inside. What it had of an earlier commit
// is replaced, what it did not have stays.
type SetupCheckout struct {
	Dir    string `json:"dir"` // a repository of the host that has the commit
	Commit string `json:"commit"`
	Path   string `json:"path"`           // inside
	User   string `json:"user,omitempty"` // who owns it
}

// SetupDatabase is the database that a setup works with, told from another of its
// name by its OID.
type SetupDatabase struct {
	Name string `json:"name"`
	OID  uint32 `json:"oid"`
	// Seed is a oneshot unit of the machine's systemd that ends the setup; "": there
	// is none, or the database was seeded.
	Seed string `json:"seed,omitempty"`
}

// Phases of a setup that runs.
const (
	SetupDelivering = "delivering"
	SetupRunning    = "setting up"
	SetupSeeding    = "seeding the database"
	SetupStarting   = "starting"
)

// SetupRun is how the latest attempt goes, and what the machine has been set up for.
type SetupRun struct {
	Job
	Phase string `json:"phase,omitempty"` // of an attempt that runs
	// Done is the revision that the machine was set up for last, Boot the start
	// of it in which its services were last started.
	Done string `json:"done,omitempty"`
	Boot string `json:"boot,omitempty"`
	// Started is another number whenever they were.
	Started int `json:"started,omitempty"`
	// DoneAt is when that setup ended.
	DoneAt time.Time `json:"doneAt,omitzero"`
	// With is the OID of the database that Done was set up with, Seeded that of the
	// one that was seeded last.
	With   uint32 `json:"with,omitempty"`
	Seeded uint32 `json:"seeded,omitempty"`
}

func (Setup) Kind() Kind { return KindSetup }

// Equal compares which attempt was asked for, and at what.
func (v Setup) Equal(o Value) bool {
	w, ok := o.(Setup)
	return ok && v.Attempt == w.Attempt && v.SameStart(w) && v.SameWork(w)
}

// SameWork compares what a whole setup does: also with another database. Whether
// that is to be seeded is no other work, since once it is, it is not any more.
func (v Setup) SameWork(w Setup) bool {
	return v.Revision == w.Revision && v.Generation == w.Generation && v.Checkout.equal(w.Checkout) && v.Unit == w.Unit &&
		slices.Equal(v.Command, w.Command) && v.User == w.User && v.WorkDir == w.WorkDir && v.Boots == w.Boots && v.Ephemeral == w.Ephemeral &&
		(v.Database == nil || w.Database == nil || v.Database.OID == w.Database.OID)
}

// SameStart compares what services were started with.
func (v Setup) SameStart(w Setup) bool {
	return v.Boot == w.Boot && slices.Equal(v.Services, w.Services) && slices.EqualFunc(v.Files, w.Files, SetupFile.Equal)
}

// equal ignores where the host keeps the repository.
func (c *SetupCheckout) equal(d *SetupCheckout) bool {
	if c == nil || d == nil {
		return c == d
	}
	return c.Commit == d.Commit && c.Path == d.Path && c.User == d.User
}

// Equal reports whether two files are the same: of secrets their digest tells.
func (f SetupFile) Equal(g SetupFile) bool {
	return f.Path == g.Path && f.Mode == g.Mode && f.User == g.User && f.Content == g.Content && f.Hot == g.Hot && f.Signal == g.Signal &&
		slices.Equal(f.Environment, g.Environment) && slices.Equal(f.Secrets, g.Secrets)
}
