package supervise

import (
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise/contract"
)

// Version of the contract; see package contract, which also the supervisor's
// small binary imports. The names here are the ones to use.
const Version = contract.Version

// Files in a supervised directory; see package contract.
const (
	SpecFile    = contract.SpecFile
	StatusFile  = contract.StatusFile
	LockFile    = contract.LockFile
	LogFile     = contract.LogFile
	TimesFile   = contract.TimesFile
	ControlFile = contract.ControlFile
)

type (
	// Spec is one process to supervise; see contract.Spec for its fields.
	Spec = contract.Spec
	// Limits of the process's cgroup.
	Limits = contract.Limits
	// Status is what the supervisor knows of its process.
	Status = contract.Status
)

// LimitsOf are those of a resource that the supervisor enforces: all but the disk's.
func LimitsOf(l resource.Limits) Limits {
	return Limits{
		MemoryMax: l.MemoryMax, MemoryHigh: l.MemoryHigh, CPUQuota: l.CPUQuota,
		CPUWeight: l.CPUWeight, IOWeight: l.IOWeight, TasksMax: l.TasksMax,
	}
}
