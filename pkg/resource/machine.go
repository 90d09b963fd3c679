package resource

import (
	"net/netip"
	"slices"
	"time"
)

// DeletionPolicy says what happens to data when its object is deleted.
type DeletionPolicy string

const (
	RetainData DeletionPolicy = "Retain" // left where it is, adopted by a later object of the same kind and name
	DeleteData DeletionPolicy = "Delete" // moved to the trash for Host.spec.trashFor, then gone
)

// Volume is a data directory, stored with unshifted ids. Name =
// "KIND.NAME.VOLUME", lower case: the path below <state>/volumes is kind/name/volume.
type Volume struct {
	ObjectKind string `json:"objectKind"`
	ObjectName string `json:"objectName"`
	Volume     string `json:"volume"`
	// SizeMax in bytes, 0: none; HalfMade. Enforced by a project quota where the file
	// system has them; see Enforced.
	SizeMax int64 `json:"sizeMax,omitempty"`
	// Policy is what a Delete step of this volume does.
	Policy DeletionPolicy `json:"policy"`
	// Clone is what a volume is made of that is not there yet; not compared.
	Clone Clone `json:"-"`
	// Enforced is observed only: "" yes or no limit asked for, else why not.
	Enforced string `json:"enforced,omitempty"`
}

// Made reports whether an observed volume is there, whole.
func (v Volume) Made() bool { return v.SizeMax >= 0 }

// HalfMade marks an observed volume that a crash has left: no wanted one is equal.
const HalfMade = -1

// Clone is what a new volume is made of: a commit with its history.
type Clone struct {
	URL string // of the repository, without a credential
	// Dir is the host's own repository that has Commit; Branch is its full name
	// at the remote: refs/heads/…, refs/tags/…, or "" for none.
	Dir, Commit, Branch string
	// User that it belongs to: UID, UID:GID, or a name that only the machine knows.
	User string
}

// System is where a machine's userland comes from; exactly one is set.
type System struct {
	Host      bool   `json:"host,omitempty"`      // the host's own userland, read-only
	RootFS    string `json:"rootfs,omitempty"`    // a directory, lower layer of an overlay
	StorePath string `json:"storePath,omitempty"` // a built NixOS closure
}

// Bind is a directory or file of the host inside a machine.
type Bind struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// Secret is a value that a machine gets at its start, read from File (0600
// root) by the launcher and never written to a persistent file system.
type Secret struct {
	Name string `json:"name"`
	File string `json:"file"`
	Path string `json:"path,omitempty"` // file inside, 0400, owned by the machine's user
	Env  string `json:"env,omitempty"`  // environment variable
	// Format makes the variable's value; "%s" is the URL-escaped secret. Empty: the secret itself.
	Format string `json:"format,omitempty"`
	// Digest is keyed; it changes when the secret does and gives nothing away.
	Digest string `json:"digest"`
}

// Limits are those of systemd.resource-control; zero is no limit. All can be
// changed while the machine runs.
type Limits struct {
	MemoryMax  int64 `json:"memoryMax,omitempty"`  // bytes
	MemoryHigh int64 `json:"memoryHigh,omitempty"` // bytes
	CPUQuota   int   `json:"cpuQuota,omitempty"`   // percent of one CPU
	CPUWeight  int   `json:"cpuWeight,omitempty"`  // 1..10000
	TasksMax   int   `json:"tasksMax,omitempty"`
	IOWeight   int   `json:"ioWeight,omitempty"` // 1..10000
	DiskMax    int64 `json:"diskMax,omitempty"`  // bytes of the writable root layer
}

// GCRoot keeps the system of a machine from Nix's garbage collector. Name = machine name.
type GCRoot struct {
	Target string `json:"target"` // a store path, or a link to one that need not be there yet
}

// Instance is the prepared directory of one incarnation of an object: its
// marker, root layer and the supervisor's spec. Name = machine name.
type Instance struct {
	Name        string     `json:"name"` // web-1
	Ordinal     int        `json:"ordinal"`
	Slot        int        `json:"slot"`
	Fingerprint string     `json:"fingerprint"` // of the API fields that need a new start
	Hostname    string     `json:"hostname"`
	System      System     `json:"system"`
	Command     []string   `json:"command,omitempty"` // absent: the system's init boots
	User        string     `json:"user,omitempty"`
	WorkDir     string     `json:"workDir,omitempty"`
	Environment []string   `json:"environment,omitempty"` // KEY=VALUE, sorted
	Volumes     []Bind     `json:"volumes,omitempty"`     // Source: volume resource name
	Mounts      []Bind     `json:"mounts,omitempty"`      // Source: host path (trusted only)
	Secrets     []Secret   `json:"secrets,omitempty"`
	Login       *Login     `json:"login,omitempty"`
	Capability  []string   `json:"capability,omitempty"` // kept beyond the default set (trusted only)
	UIDBase     uint32     `json:"uidBase"`              // 65536 ids from here; 0: no user namespace (trusted only)
	Ephemeral   bool       `json:"ephemeral,omitempty"`
	Limits      Limits     `json:"limits"`
	Addr        netip.Addr `json:"addr"` // the machine waits for it before the command runs
	DNS         netip.Addr `json:"dns,omitzero"`
	StopTimeout Duration   `json:"stopTimeout"`
	// HostPaths are the directories that the sources of mounts and the rootfs lie
	// in; links below them do not lead out. Empty: any, wherever links lead.
	HostPaths []string `json:"hostPaths,omitempty"`
	// Container is the name of the NixOS container that the machine is; empty:
	// it is none. Such a machine is updated in place.
	Container string `json:"container,omitempty"`
	// HostNix gives a NixOS container what that has by default: the Nix daemon's
	// socket, the store's database and its profile (trusted only).
	HostNix bool `json:"hostNix,omitempty"`
	// LimitsUnenforced is observed only: which limits the kernel does not enforce, and why.
	LimitsUnenforced string `json:"limitsUnenforced,omitempty"`
}

// Duration is a time.Duration that reads "90s" in JSON.
type Duration time.Duration

func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// Unit is the running machine of an instance. Name = machine name. A unit that
// ended by itself is observed with Running false until it is deleted or
// started again; one that was stopped by a Delete step is not observed.
type Unit struct {
	Name    string `json:"name"`
	Running bool   `json:"running"`
	// StopTimeout until a Delete kills.
	StopTimeout Duration `json:"stopTimeout,omitzero"`
	// Generation asks for a restart: the unit is restarted when it is higher
	// than that of the observed start (`tekton restart`).
	Generation int64 `json:"generation,omitempty"`
	// Fingerprint of the instance that is to run, where a machine is updated in
	// place: a running one of another fingerprint is put, not stopped.
	Fingerprint string `json:"fingerprint,omitempty"`

	// Observed only.
	Boot      string    `json:"boot,omitempty"`   // id of this start
	Leader    int       `json:"leader,omitempty"` // PID of the first process; 0 while starting
	StartedAt time.Time `json:"startedAt,omitzero"`
	ExitedAt  time.Time `json:"exitedAt,omitzero"`
	ExitCode  int       `json:"exitCode,omitempty"` // 128+n: signal n
	Failures  int       `json:"failures,omitempty"` // ends since the last run that lasted StableAfter
	LastLog   []string  `json:"lastLog,omitempty"`  // of the ended run, at most 20 lines
}

// StableAfter is how long a unit runs until its failures are forgotten.
const StableAfter = 10 * time.Minute

// Probe says when an instance answers.
type Probe struct {
	HTTPPath string   `json:"httpPath,omitempty"` // GET; 200..399 is an answer
	Port     int      `json:"port,omitempty"`     // 0: running and attached is enough
	Timeout  Duration `json:"timeout"`            // of one try
	Deadline Duration `json:"deadline"`           // for the first success
	Interval Duration `json:"interval,omitzero"`  // 0: none after the first success
	// Routed are further ports that routes lead to. After the first success they are
	// looked at, too: somebody has to listen.
	Routed []int `json:"routed,omitempty"`
}

// Equal compares all of it.
func (p Probe) Equal(q Probe) bool {
	return p.HTTPPath == q.HTTPPath && p.Port == q.Port && p.Timeout == q.Timeout && p.Deadline == q.Deadline && p.Interval == q.Interval &&
		slices.Equal(p.Routed, q.Routed)
}

// Answer is the durable fact that an instance has answered its probe. Putting
// it means probing until the first success. Name = machine name.
type Answer struct {
	Addr  netip.Addr `json:"addr"`
	Probe Probe      `json:"probe"`
	// Boot of the unit that is to answer or that has answered.
	Boot string `json:"boot"`
	// Setup is the SetupRun.Started of the services that are to answer, or have:
	// those that a later commit has started anew have to answer anew.
	Setup int `json:"setup,omitempty"`
	// Failing is observed only: why the latest probe of a running unit failed.
	Failing string `json:"failing,omitempty"`
}

func (Volume) Kind() Kind   { return KindVolume }
func (GCRoot) Kind() Kind   { return KindGCRoot }
func (Instance) Kind() Kind { return KindInstance }
func (Unit) Kind() Kind     { return KindUnit }
func (Answer) Kind() Kind   { return KindAnswer }

// Equal ignores the policy: it matters when the volume goes.
func (v Volume) Equal(o Value) bool {
	w, ok := o.(Volume)
	v.Policy, v.Enforced, w.Policy, w.Enforced = "", "", "", ""
	v.Clone, w.Clone = Clone{}, Clone{}
	return ok && v == w
}

// Equal compares where the root leads to.
func (v GCRoot) Equal(o Value) bool { return v == o }

// Equal compares the fingerprint and what can be changed hot. Rendered bytes
// take no part, so that an upgrade of tekton restarts nothing.
func (v Instance) Equal(o Value) bool {
	w, ok := o.(Instance)
	return ok && v.Name == w.Name && v.Fingerprint == w.Fingerprint && v.Slot == w.Slot && v.Limits == w.Limits && v.StopTimeout == w.StopTimeout &&
		slices.Equal(v.HostPaths, w.HostPaths) && v.Login.sameKeys(w.Login)
}

// Equal reports whether the unit is (to be) running and no newer restart is asked for.
func (v Unit) Equal(o Value) bool {
	w, ok := o.(Unit)
	return ok && v.Name == w.Name && v.Running == w.Running && v.Generation == w.Generation && v.Fingerprint == w.Fingerprint
}

// Equal compares the start that answered.
func (v Answer) Equal(o Value) bool {
	w, ok := o.(Answer)
	return ok && v.Boot == w.Boot && v.Setup == w.Setup && v.Addr == w.Addr && v.Probe.Equal(w.Probe)
}
