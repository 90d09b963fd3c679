// Package handover is what the launcher on the host gives to the first process
// inside a machine, and a setup to the one that it sends in later (Work): one
// JSON document in a sealed memory file, inherited as a file descriptor.
//
// Invariants:
//   - Nothing of it touches a file system, an argument list or the environment
//     of systemd-nspawn: it carries secrets.
//   - The reader closes the descriptor before it starts anything else.
//   - Unknown versions are refused: the first process fails closed.
package handover

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// Version of the document.
	Version = 1
	// FD is where the document is inherited: the first of sd_listen_fds, the
	// only way through systemd-nspawn.
	FD = 3
	// Interface is the machine's end of its link.
	Interface = "host0"
	// Nobody has this id in a machine, the last one of its range: what it owns is
	// given to the user at the next start.
	Nobody = 65535
	// InitPath is where the first process is bound inside the machine.
	InitPath = "/run/tekton/init"
	// HearingName is what the first process calls itself, in /proc/PID/status, while
	// it takes signals: before, Go's runtime has a handler for all of them that
	// drops what nobody has asked for yet.
	HearingName = "tekton-hearing"
	// HaltSignal is SIGRTMIN+3, by which nspawn asks the first process to end: what
	// systemd takes as "power off".
	HaltSignal = syscall.Signal(37)
	// EnvironmentFile is for units of a booted system (EnvironmentFile=).
	EnvironmentFile = "/run/tekton-environment"
	// HostKeyFile is the machine's ssh host key, root's alone.
	HostKeyFile = "/run/tekton-ssh/host_key"
	// SSHDConfig has the sshd of a userland without init do what it is for.
	SSHDConfig = "/run/tekton-ssh/config"
	// KeysDir holds a file of authorized keys by name of the user. It is bound from
	// the host, where it is changed. Directly in /run: sshd wants all above it to be
	// root's, and what systemd-nspawn makes for its binds is nobody's.
	KeysDir = "/run/tekton-keys"
)

// Exit codes of the first process before the command runs.
const (
	ExitSetup    = 125 // address, user, credentials ...: see the message
	ExitNoExec   = 126 // the command was found and cannot be executed
	ExitNotFound = 127 // the command was not found
)

// Document says what to run and with what.
type Document struct {
	Version  int        `json:"version"`
	Hostname string     `json:"hostname"`
	Addr     netip.Addr `json:"addr,omitzero"` // waited for; invalid: no wait
	DNS      netip.Addr `json:"dns,omitzero"`  // written to /etc/resolv.conf; invalid: left alone

	Command []string `json:"command,omitempty"` // empty: boot
	// Boot are the inits to try in order when there is no command.
	Boot    []string `json:"boot,omitempty"`
	User    string   `json:"user,omitempty"`
	WorkDir string   `json:"workDir,omitempty"`
	// Environment is KEY=VALUE; SecretEnvironment alike, from secrets.
	Environment       []string `json:"environment,omitempty"`
	SecretEnvironment []string `json:"secretEnvironment,omitempty"`
	Files             []File   `json:"files,omitempty"`
	// Login is whom ssh lets in; credentials, variables and empty volumes are then this user's.
	Login *Login `json:"login,omitempty"`
	// Volumes are where writable volumes are bound; a fresh one is given to the user.
	Volumes []string `json:"volumes,omitempty"`
}

// Login is the user that ssh lets in, and what makes it come to the right machine.
type Login struct {
	User    string `json:"user"`
	Home    string `json:"home"`
	HostKey []byte `json:"hostKey"` // private
}

// File is a credential: 0400, owned by the machine's user, on tmpfs.
type File struct {
	Path string `json:"path"`
	Data []byte `json:"data"`
}

// Seal writes the document into a sealed memory file.
func Seal(d Document) (*os.File, error) {
	d.Version = Version
	return seal(d)
}

func seal(document any) (*os.File, error) {
	b, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("tekton-handover", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("create memory file for the handover: %w", err)
	}
	f := os.NewFile(uintptr(fd), "handover")
	if _, err := f.WriteAt(b, 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("write handover: %w", err)
	}
	seals := unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal handover: %w", err)
	}
	return f, nil
}

// Open reads the document and closes the descriptor.
func Open(fd uintptr) (d Document, err error) {
	if err := open(fd, &d); err != nil {
		return Document{}, err
	}
	if d.Version != Version {
		return Document{}, fmt.Errorf("handover has version %d, this init speaks %d: start the machine again with one version of tekton", d.Version, Version)
	}
	return d, nil
}

func open(fd uintptr, document any) error {
	f := os.NewFile(fd, "handover")
	if f == nil {
		return fmt.Errorf("no handover: descriptor %d is not open; this program is started by tekton", fd)
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	if err != nil {
		return fmt.Errorf("read handover: %w", err)
	}
	if err := json.Unmarshal(b, document); err != nil {
		return fmt.Errorf("decode handover of %d bytes", len(b)) // the cause may quote a secret
	}
	return nil
}

// FormatEnvironment renders what systemd's EnvironmentFile= reads back.
func FormatEnvironment(env []string) string {
	var b strings.Builder
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", `$`, `\$`)
	for _, kv := range env {
		k, v, _ := strings.Cut(kv, "=")
		b.WriteString(k + `="` + escape.Replace(v) + "\"\n")
	}
	return b.String()
}
