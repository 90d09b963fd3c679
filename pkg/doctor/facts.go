package doctor

import (
	"tekton.host/pkg/api/v1alpha1"
)

// Facts are what was seen on a host.
type Facts struct {
	Root  bool // whether we were root, and could see all
	NixOS bool // whose files below /etc are made from its configuration
	// Config is the Host file, "" where there is none; Problems are what is wrong in it.
	Config   string
	Problems []string
	Host     v1alpha1.HostSpec // defaulted
	// Installed is whether a daemon has ever run on the state directory.
	Installed bool

	Programs  []Program
	Kernel    Kernel
	Settings  map[string]string // kernel settings; what is missing is not there
	Network   Network
	Names     []Resolver
	Ports     []Port
	Dirs      []Dir
	Refused   map[string]string // secrets that are not used, and why
	Ours      []string          // programs of tekton that are not beside the daemon
	Disks     []Disk
	Daemon    Daemon
	Sources   []Source
	Trial     *Trial // nil: not tried
	TrialLeft string // the directory of a trial that was not cleaned up
}

// Program is one of other people's.
type Program struct {
	Name    string
	Path    string // "" when it is not there
	Version string
	Err     string // why its version is not known
	// Mended names the flaws that the distribution's changelog says are mended.
	Mended []string
}

// Kernel is what it is and can do.
type Kernel struct {
	Release string
	// Version is that of the upstream release, "" where the distribution does not tell.
	Version  string
	Features []Feature
}

// Feature is something that was tried.
type Feature struct {
	Name  string
	Where string
	Err   string // why it does not work
	// Unseen is why it was not tried.
	Unseen string
	// Warns: only a part of tekton needs it.
	Warns bool
}

// Network of the host.
type Network struct {
	Clash  string // what is in the way of our subnet, links and table
	Unseen string // why that is not known
	// Networkd runs, and removes what is not its own.
	Networkd        bool
	NetworkdRules   bool // ManageForeignRoutingPolicyRules
	NetworkdRoutes  bool // ManageForeignRoutes
	NetworkdUnknown string
}

// Resolver is somebody who machines' names are asked of.
type Resolver struct {
	Addr string
	Err  string
}

// Port that a service of ours listens on.
type Port struct {
	Name  string // of the service
	Field string // of the Host, that chooses it
	Addr  string // ADDRESS:PORT/PROTOCOL
	User  string // who else has it; "" nobody
	Err   string
}

// Dir is a directory of ours.
type Dir struct {
	Path  string
	Field string
	// Want is the mode it is made with, Most what may be set at most.
	Want, Most Perm
	// Precious: what it holds cannot be made anew.
	Precious bool
	Exists   bool
	Mode     Perm
	UID      uint32
	Err      string
}

// Disk is a file system that we write to.
type Disk struct {
	Path               string
	Type               string
	Free, Size         uint64 // bytes
	FreeInodes, Inodes uint64 // 0 of 0: no limit
	Err                string
}

// Daemon as it answers on its socket.
type Daemon struct {
	Socket       string
	Err          string // why it does not
	Version      string
	Client       string // our own version
	Installation string
	Expected     string // the installation of the state directory
	Ready        int
	// NotReady objects by name, with the reason.
	NotReady []string
}

// Source of specs.
type Source struct {
	Name     string
	Where    string
	Objects  int
	Err      string
	Problems []string
	Held     int
}

// Trial is what a throw-away machine found.
type Trial struct {
	Err string // why it was not tried to the end
	// Link and Subnet that it had.
	Link, Subnet string
	Flows        []Flow
}

// Flow is one way that packets of machines take.
type Flow struct {
	Name string // "a machine reaches DNS (udp 53)"
	Err  string // "" when they arrive
	// By names the rule that dropped them, as far as nft knows.
	By string
	// Unseen is why it was not tried.
	Unseen string
}
