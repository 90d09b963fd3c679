package server

import (
	"context"
	"io"
	"net"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/spec"
)

// Backend is what the API is an API to. Its methods are called concurrently
// and honour ctx. A *wire.Error that they return reaches the client as it is.
type Backend interface {
	Objects
	Machines
	Secrets
	Data
	Backups
	Events
	// Version of the daemon.
	Version(ctx context.Context) (v1alpha1.VersionInfo, error)
}

// Objects are the specs and their status.
type Objects interface {
	// List returns all objects, also the rejected ones; one a kind and name.
	List(ctx context.Context) ([]v1alpha1.Item, error)
	// Changed returns a channel that is closed when List may return something
	// else than it did at the time of this call.
	Changed() <-chan struct{}
	// Sources returns the state of each source.
	Sources(ctx context.Context) ([]v1alpha1.SourceStatus, error)
	// Problems returns what is wrong with the files of the sources.
	Problems(ctx context.Context) ([]spec.Problem, error)
	// Plan returns what would be done if files were added to the sources: a
	// document of files takes the place of the stored one of the same kind and
	// name. Without files, what is still to be done.
	Plan(ctx context.Context, files []v1alpha1.File) (v1alpha1.PlanReport, error)
	// Apply writes all documents of files to a source, or none when one of
	// them has a problem. An empty source is the first one.
	Apply(ctx context.Context, source string, files []v1alpha1.File) ([]v1alpha1.ApplyResult, error)
	// Delete removes the object's document from its source.
	Delete(ctx context.Context, ref v1alpha1.Ref) (v1alpha1.DeleteResult, error)
	// History returns the latest generations of an object, oldest first.
	History(ctx context.Context, ref v1alpha1.Ref) ([]v1alpha1.Generation, error)
	// ReleaseDeletes lets a source's held deletions happen, once, and returns them.
	ReleaseDeletes(ctx context.Context, source string) ([]v1alpha1.Ref, error)
	// SyncSource looks at a git source's remote now. It returns when the
	// branch's commit is in effect, or why it is not.
	SyncSource(ctx context.Context, source string) (v1alpha1.GitStatus, error)
	// SuspendSource has a git source not look at its remote, or look again.
	SuspendSource(ctx context.Context, source string, suspended bool) error
}

// Machines are what runs for the objects.
type Machines interface {
	// Restart asks for another start of the object's machine.
	Restart(ctx context.Context, ref v1alpha1.Ref) error
	// Logs returns the log of the object's machine. The caller closes it, also
	// while another goroutine is in Read, which returns then.
	Logs(ctx context.Context, ref v1alpha1.Ref, o v1alpha1.LogOptions) (io.ReadCloser, error)
	// Usage returns what all running machines use.
	Usage(ctx context.Context) (v1alpha1.UsageReport, error)
	// Dial connects to a TCP port of the object's machine.
	Dial(ctx context.Context, ref v1alpha1.Ref, port uint16) (net.Conn, error)
	// Leader returns the first process of the object's running machine.
	Leader(ctx context.Context, ref v1alpha1.Ref) (Leader, error)
}

// Leader is the first process of a running machine.
type Leader struct {
	PID int
	// Boot identifies this start of the machine.
	Boot string
	// Boots says that the machine's system runs its own init, and with it a journal.
	Boots bool
	// Launcher is a program inside the machine, with its arguments, that sets
	// up the machine's environment and executes the arguments that follow.
	// Empty: commands get a plain default environment.
	Launcher []string
}

// Secrets of the host. Values go in and never out.
type Secrets interface {
	ListSecrets(ctx context.Context) ([]v1alpha1.SecretInfo, error)
	SetSecret(ctx context.Context, name string, value []byte) error
	DeleteSecret(ctx context.Context, name string) error
}

// Data of objects, also of those that are gone.
type Data interface {
	ListData(ctx context.Context) ([]v1alpha1.DataItem, error)
	// RestoreData takes data out of the trash.
	RestoreData(ctx context.Context, id string) error
	// DeleteData deletes data that no object uses for good.
	DeleteData(ctx context.Context, id string) error
}

// Backups are made by a client that reads this host's files itself: nothing secret
// comes through here.
type Backups interface {
	// Backup says what is to be in a backup.
	Backup(ctx context.Context) (v1alpha1.BackupInfo, error)
	// BackupDatabase dumps a database to a place on this host, or says how far that is.
	BackupDatabase(ctx context.Context, name string) (v1alpha1.DumpProgress, error)
}

// Events are what happened.
type Events interface {
	// Events returns those that are kept and have a higher number, oldest first.
	Events(ctx context.Context, after int64) ([]v1alpha1.Event, error)
	// EventsChanged returns a channel that is closed when there are more than at
	// the time of this call.
	EventsChanged() <-chan struct{}
}
