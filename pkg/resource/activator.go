package resource

import (
	"net/netip"
	"time"
)

// Activator is the process that all requests to objects that may sleep go
// through: it knows when the last one was, and who waits for one that sleeps.
type Activator struct {
	// Listen is where the proxy reaches it, on the service address.
	Listen netip.AddrPort `json:"listen"`
}

// ActivatorPort on the service address. Machines do not reach it.
const ActivatorPort = 7850

// GateHeader is how the proxy tells the activator which gate, and which port
// behind it, a request is for: NAME:PORT.
const GateHeader = "X-Tekton-Gate"

// Gate is an object's place in the activator. Name = the object's name.
type Gate struct {
	Label string `json:"label"` // KIND/NAME, in the page for those who wait
	// Backend is the machine that answers; zero: there is none, and requests wait.
	Backend netip.Addr `json:"backend,omitzero"`
	// SleepAfter so long without a request; 0: not now, there is work under way.
	SleepAfter Duration `json:"sleepAfter"`
	// HealthPath and HealthPort are what health checks ask for.
	HealthPath string `json:"healthPath,omitempty"`
	HealthPort int    `json:"healthPort,omitempty"`
	// Generation wakes one that fell asleep at a lower one (`tekton restart`).
	Generation int64 `json:"generation,omitempty"`

	// Observed only.

	// Asleep says that nobody asks for the object; since when.
	Asleep bool      `json:"-"`
	Since  time.Time `json:"-"`
	// MovedAt is when requests began to go to Backend.
	MovedAt time.Time `json:"movedAt,omitzero"`
}

func (Activator) Kind() Kind { return KindActivator }
func (Gate) Kind() Kind      { return KindGate }

func (v Activator) Equal(o Value) bool { return v == o }

// Equal compares what the activator is told, not what it knows better.
func (v Gate) Equal(o Value) bool {
	w, ok := o.(Gate)
	w.Asleep, w.Since, w.MovedAt = v.Asleep, v.Since, v.MovedAt
	return ok && v == w
}
