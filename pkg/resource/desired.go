package resource

import "time"

// Desired is what the objects of a host ask for: three values, never two. A
// resource is Present with a value, held (left as it is), or, when its owner
// is Complete and it is neither, Absent. What belongs to an owner that is not
// Complete is held.
type Desired struct {
	Present Set
	// Complete owners were compiled whole.
	Complete map[string]bool
	// Held resources are left as they are.
	Held map[ID]bool
	// Policies of data, for when it goes. Missing means Retain.
	Policies map[ID]DeletionPolicy
	// Exclusive units start only when no other unit of their owner runs.
	Exclusive map[ID]bool
}

// Failure is what a step of a resource last ended with.
type Failure struct {
	Reason   string
	Message  string
	Attempts int
	// RetryAt is when to try again; zero: not before its input changes.
	RetryAt time.Time
}
