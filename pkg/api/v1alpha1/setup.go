package v1alpha1

// SetupSpec says what has to be done once inside the running machine for a
// revision: deliver files, replace a checkout, run a setup, (re)start services,
// in this order. No change of it needs another instance. It is no part of any
// document: kinds that are lowered to a container set it.
//
// A failed setup leaves running services alone and is tried again, after 10 s
// doubling to 30 min. At a new start of a machine that was set up before, the
// files are delivered and the services started, and the setup runs again only
// where the root is ephemeral.
type SetupSpec struct {
	// Revision that the machine is set up for; another one runs the whole setup.
	Revision string
	// Generation higher than before runs the setup of the same revision again.
	Generation int64
	// Files to deliver. A change of them alone delivers them and restarts the services, but runs no setup.
	Files []SetupFile
	// Checkout to have inside; its commit is part of the revision.
	Checkout *SetupCheckout
	// Unit of the machine's systemd that is the setup, a oneshot service; or
	Unit string
	// Command that is the setup, with the environment of the machine's own command, in the checkout's path.
	Command []string
	// User of the command: a name of the machine's passwd, or UID[:GID]; absent: the spec's user.
	User string
	// Database of the spec that the setup works with; "": none. A dump of it is made before another revision is set up.
	Database string
	// Seed is a unit of the machine's systemd, a oneshot service, that ends the setup once for that database.
	Seed string
	// Services are units of the machine's systemd, restarted in this order after the setup succeeded.
	Services []string
	// Deadline of one attempt; zero: 10 minutes.
	Deadline Duration
}

// SetupFile is a file inside the machine. One of Content, Secret and Environment
// (with Secrets, Databases) is its content.
type SetupFile struct {
	// Path below /etc, /run, /tmp or a home. Links that lead to it are not followed.
	Path string
	// Mode of the file; zero: 0400.
	Mode uint32
	// User that owns it: a name of the machine's passwd, or UID[:GID]; absent: root.
	User string
	// Content as it is; no secret.
	Content string
	// Secret of the host that is the content.
	Secret string
	// Environment makes it a file of variables, which both a shell and systemd's EnvironmentFile read alike.
	Environment map[string]string
	// Secrets of the host by the variable that gets them.
	Secrets map[string]string
	// Databases of the spec by the variable that gets the URL.
	Databases map[string]string
	// Hot files are read again by what uses them: a change restarts nothing.
	Hot bool
	// Signal files are delivered only before the setup runs.
	Signal bool
}

// SetupCheckout is the tree of a commit inside the machine. Files that an earlier
// commit put there are replaced, also modified ones; others are kept.
type SetupCheckout struct {
	// Dir is a bare repository of the host that has the commit.
	Dir string
	// Commit in full.
	Commit string
	// Path inside.
	Path string
	// User who owns it: a name of the machine's passwd, or UID[:GID]; absent: root.
	User string
}
