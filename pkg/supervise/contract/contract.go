// Package contract is what a supervisor and the daemon agree on: the files of a
// supervised directory and the requests on its control socket. It imports
// nothing outside the standard library, so that the supervisor stays small.
package contract

import (
	"os"
	"strings"
	"time"
)

// Version of the contract between a supervisor and the daemon that reads its
// directory. The daemon speaks Version and Version-1, so that an upgrade of
// the daemon adopts what an older one started.
const Version = 1

// Files in a supervised directory.
const (
	SpecFile    = "spec.json"    // Spec, written by the daemon before the start
	StatusFile  = "status.json"  // Status, replaced atomically by the supervisor
	LockFile    = "lock"         // write-locked (open file description lock) while the supervisor lives
	LogFile     = "log"          // bounded; LogFile + ".1" is the older half
	TimesFile   = "log.times"    // when what is in LogFile was written, see Stamp; TimesFile + ".1" is that of the older half
	ControlFile = "control.sock" // one JSON request a line, one JSON answer a line
)

// Spec is one process to supervise.
type Spec struct {
	Version int    `json:"version"`
	Name    string `json:"name"` // machine or service name
	Unit    string `json:"unit"` // systemd unit name and cgroup name, host-global
	Mark    string `json:"mark"` // resource.Mark
	Boot    string `json:"boot"` // id of this start, chosen by Start

	Argv []string `json:"argv"`
	// Env is the whole environment; nothing is inherited but what is listed.
	Env []string `json:"env,omitempty"`
	Dir string   `json:"dir,omitempty"`
	// UID and GID that the process runs as; 0 keeps root.
	UID    uint32   `json:"uid,omitempty"`
	GID    uint32   `json:"gid,omitempty"`
	Groups []uint32 `json:"groups,omitempty"`
	// AmbientCaps are capabilities that the process keeps though it is not root
	// (10: CAP_NET_BIND_SERVICE, for ports below 1024).
	AmbientCaps []int `json:"ambientCaps,omitempty"`

	// Leader true: the process is systemd-nspawn, which reports the machine's
	// first process by sd_notify (X_NSPAWN_LEADER_PID); Start waits for it.
	Leader bool `json:"leader,omitempty"`
	// Notify true: the process says READY=1 by sd_notify; Start waits for it.
	Notify bool `json:"notify,omitempty"`

	LogMax      int64         `json:"logMax"`
	StopSignal  int           `json:"stopSignal,omitempty"` // 0: SIGTERM
	StopTimeout time.Duration `json:"stopTimeout"`
	Limits      Limits        `json:"limits"`
	// Generation is kept for the caller (resource.Unit.Generation).
	Generation int64 `json:"generation,omitempty"`
	// Failures before this start, kept for the caller (resource.Unit.Failures).
	Failures int `json:"failures,omitempty"`
}

// Limits of the process's cgroup; zero is no limit. Units as in resource.Limits.
type Limits struct {
	MemoryMax  int64 `json:"memoryMax,omitempty"`
	MemoryHigh int64 `json:"memoryHigh,omitempty"`
	CPUQuota   int   `json:"cpuQuota,omitempty"` // percent of one CPU
	CPUWeight  int   `json:"cpuWeight,omitempty"`
	IOWeight   int   `json:"ioWeight,omitempty"`
	TasksMax   int   `json:"tasksMax,omitempty"`
}

// Status is what the supervisor knows of its process.
type Status struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	Unit    string `json:"unit"`
	Mark    string `json:"mark"`
	Boot    string `json:"boot"`
	// Supervisor and PID are process ids on the host; Leader is that of the machine's first process.
	Supervisor int       `json:"supervisor"`
	PID        int       `json:"pid,omitempty"`
	Leader     int       `json:"leader,omitempty"`
	Ready      bool      `json:"ready,omitempty"`
	StartedAt  time.Time `json:"startedAt,omitzero"`
	// HostBoot is that of the host in which the process was started.
	HostBoot string `json:"hostBoot,omitempty"`
	// ExitedAt is set when the process has ended; Stopped when we asked for it, or
	// the host went down while it ran.
	ExitedAt   time.Time `json:"exitedAt,omitzero"`
	ExitCode   int       `json:"exitCode,omitempty"` // 128+n: signal n
	Stopped    bool      `json:"stopped,omitempty"`
	Generation int64     `json:"generation,omitempty"`
	Failures   int       `json:"failures,omitempty"`
	// LimitsUnenforced names limits that this kernel cannot enforce, and why.
	LimitsUnenforced string `json:"limitsUnenforced,omitempty"`
	// Err says why the process could not be started.
	Err string `json:"err,omitempty"`

	// Running is filled by the reader: the supervisor holds its lock and the process has not ended.
	Running bool `json:"-"`
}

// HostBoot identifies the present boot of the host; "" where the kernel does not tell.
func HostBoot() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

// Operations of a Request.
const (
	OpStatus = "status" // answer only
	OpStop   = "stop"   // stop signal, after the timeout kill
	OpKill   = "kill"   // kill the process's whole cgroup
	OpSignal = "signal" // send Signal to the process
	OpLimits = "limits" // apply Limits to the cgroup
)

// Request is one line on the control socket.
type Request struct {
	Op     string `json:"op"`
	Signal int    `json:"signal,omitempty"`
	// Timeout replaces Spec.StopTimeout for this stop; 0 keeps it.
	Timeout time.Duration `json:"timeout,omitempty"`
	Limits  *Limits       `json:"limits,omitempty"`
}

// Response is the answer to one Request.
type Response struct {
	Err    string `json:"err,omitempty"`
	Status Status `json:"status"`
}
