package supervise

import "tekton.host/pkg/supervise/contract"

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
