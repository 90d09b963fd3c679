package v1alpha1

import "time"

// UsageReport is what all machines use at one moment.
type UsageReport struct {
	Time  time.Time `json:"time"`
	Items []Usage   `json:"items"`
}

// Usage is what a machine uses. What is absent is not known.
type Usage struct {
	Ref     `json:",inline"`
	Machine string `json:"machine"`
	// CPU time since its start, in microseconds.
	CPUMicroseconds int64 `json:"cpuMicroseconds"`
	// Memory in bytes, without file contents that can be dropped at once.
	Memory int64 `json:"memory,omitempty"`
	Tasks  int   `json:"tasks,omitempty"`
	// Estimated: the kernel does not count this machine's memory and tasks; they
	// are sums over its processes, shared memory counted repeatedly.
	Estimated bool `json:"estimated,omitempty"`
	// Disk in bytes, of those of its root layer and volumes that have a limit.
	Disk int64 `json:"disk,omitempty"`
	// Received and Sent bytes of the machine's link.
	Received uint64 `json:"received"`
	Sent     uint64 `json:"sent"`
}
