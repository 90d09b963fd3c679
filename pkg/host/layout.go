package host

import "path/filepath"

// Layout is where tekton keeps things. All of it is below two directories.
type Layout struct {
	State   string // Host.spec.stateDir
	Run     string // Host.spec.runDir
	Secrets string // Host.spec.secretsDir
}

func (l Layout) state(p ...string) string {
	return filepath.Join(append([]string{l.State}, p...)...)
}

// Installation holds the random id that marks what is ours.
func (l Layout) Installation() string { return l.state("installation") }

// Key is the installation's own secret: what depends on it is recognized by
// this installation alone.
func (l Layout) Key() string { return l.state("digest.key") }

// Lock is held by the one daemon of this state directory.
func (l Layout) Lock() string { return l.state("lock") }

// Ledger holds the durable claims.
func (l Layout) Ledger() string { return l.state("ledger.json") }

// Missing remembers what a source holds back from deletion.
func (l Layout) Missing() string { return l.state("missing.json") }

// Events holds what happened, for people.
func (l Layout) Events() string { return l.state("events.jsonl") }

// Notifications holds what each hook has heard.
func (l Layout) Notifications() string { return l.state("notifications") }

// History holds a file an object: its latest specs, for people.
func (l Layout) History() string { return l.state("history") }

// Specs is the directory of the default source.
func (l Layout) Specs() string { return l.state("specs") }

// Git holds one mirror a git source.
func (l Layout) Git() string { return l.state("git") }

// Machines holds one directory an instance.
func (l Layout) Machines() string { return l.state("machines") }

// SystemLink is the name of a link in a machine's directory: to the system of
// the NixOS host that its latest start took its userland from.
const SystemLink = "system"

// SystemLink of a machine.
func (l Layout) SystemLink(machine string) string {
	return filepath.Join(l.Machines(), machine, SystemLink)
}

// Volumes holds kind/name/volume.
func (l Layout) Volumes() string { return l.state("volumes") }

// Passwords holds one 0600 file a role.
func (l Layout) Passwords() string { return l.state("passwords") }

// Builds holds one directory a closure that is built here.
func (l Layout) Builds() string { return l.state("builds") }

// Checkouts holds one directory a reference of a repository that is fetched.
func (l Layout) Checkouts() string { return l.state("checkouts") }

// Mirrors holds one bare repository for all checkouts of a URL and secret.
func (l Layout) Mirrors() string { return l.state("mirrors") }

// Staging holds what is to become a volume, while it is made.
func (l Layout) Staging() string { return l.state("staging") }

// Setups holds one directory a machine that is set up from outside.
func (l Layout) Setups() string { return l.state("setups") }

// Trash holds deleted data until its time is over.
func (l Layout) Trash() string { return l.state("trash") }

// Certificates is where our own Caddy keeps keys, certificates and its account.
func (l Layout) Certificates() string { return l.state("services", "caddy", "storage") }

// Backup holds the dumps of databases that a backup is made with, while it is made.
func (l Layout) Backup() string { return l.state("backup") }

// BackupLock is held by the one backup that is made.
func (l Layout) BackupLock() string { return l.state("backup.lock") }

// Restoring holds a backup that is put back, until all of it is at its place. No
// daemon starts meanwhile.
func (l Layout) Restoring() string { return l.state("restoring") }

// Restored holds the dumps of a backup, one directory a database, until there is
// that database.
func (l Layout) Restored() string { return l.state("restored") }

// Service is the directory of a process of ours: postgres, caddy, dns.
func (l Layout) Service(name string) string { return l.state("services", name) }

// Socket is the daemon's API.
func (l Layout) Socket() string { return filepath.Join(l.Run, "tekton.sock") }

// ReadSocket is the part of the daemon's API that only answers questions.
func (l Layout) ReadSocket() string { return filepath.Join(l.Run, "read.sock") }

// OperateSocket is that part, what machines print, and their start anew.
func (l Layout) OperateSocket() string { return filepath.Join(l.Run, "operate.sock") }

// RunService is a service's directory for sockets.
func (l Layout) RunService(name string) string { return filepath.Join(l.Run, name) }
