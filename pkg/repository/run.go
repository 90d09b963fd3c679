package repository

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode"

	"tekton.host/pkg/host"
)

// Options of Open.
type Options struct {
	// URL of the remote, whose scheme is the only one that may be used. // required
	URL string
	// Dir of the bare repository that git works on, below a directory of root's.
	// Open makes it no content; see Ensure. // required
	Dir string
	// RunDir is made anew for each run and goes with Close, on a tmpfs. // required
	RunDir string
	// User that git runs as, where we are root. // required
	User string
	// MaxSize of a file that git may write, in bytes. // required
	MaxSize int64
	// Timeout that the caller's context has, for messages. // required
	Timeout time.Duration

	// Files of the operator, each optional.
	SSHKeyFile, KnownHostsFile string
	TokenFile, Username        string
	AllowedSignersFile         string
}

// Repository is a bare repository that git is run on, with a directory that it can read and not
// write: its configuration and copies of the operator's files.
type Repository struct {
	o      Options
	as     *syscall.Credential
	scheme string
	hide   []string // what no message may repeat
}

// Names in the run directory, which is git's working directory: so no path
// has to be quoted in what git hands to a shell.
const (
	configFile  = "config"
	sshFile     = "ssh_config"
	keyFile     = "key"
	hostsFile   = "known_hosts"
	signersFile = "allowed_signers"
)

// maxOperatorFile bounds keys, tokens and lists of signers.
const maxOperatorFile = 1 << 20

// Open makes the run directory and, where they are missing, the directories
// above it and above the repository.
func Open(o Options) (*Repository, error) {
	r := &Repository{o: o}
	r.scheme, _, _ = strings.Cut(o.URL, "://")
	if os.Geteuid() == 0 {
		var err error
		if r.as, err = unprivileged(o.User); err != nil {
			return nil, err
		}
	}
	for _, dir := range []string{filepath.Dir(o.Dir), filepath.Dir(o.RunDir)} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("make %s: %w", dir, err)
		}
	}
	if err := r.makeRunDir(); err != nil {
		r.Close()
		return nil, fmt.Errorf("prepare a run of git: %w", err)
	}
	return r, nil
}

// Close removes the run directory.
func (r *Repository) Close() { os.RemoveAll(r.o.RunDir) }

// unprivileged is the user that git runs as.
func unprivileged(name string) (*syscall.Credential, error) {
	as, err := host.LookupUser(name)
	if err != nil {
		return nil, fmt.Errorf("find the user that git runs as: %w; make it (useradd --system %s), or name another in spec.git.user of the Host", err, name)
	}
	if as.Uid == 0 {
		return nil, fmt.Errorf("the user %s is root, which git must not run as; name another in spec.git.user of the Host", name)
	}
	return as, nil
}

func (r *Repository) makeRunDir() error {
	r.Close() // of a run that was killed
	if err := os.Mkdir(r.o.RunDir, 0o711); err != nil {
		return err
	}
	token, err := r.operatorFile(r.o.TokenFile)
	if err != nil {
		return err
	}
	header := ""
	if token := strings.TrimSpace(string(token)); token != "" {
		header = base64.StdEncoding.EncodeToString([]byte(r.o.Username + ":" + token))
		r.hide = []string{token, header}
	}
	files := map[string][]byte{configFile: []byte(gitConfig(header, filepath.Join(r.o.RunDir, signersFile))), sshFile: []byte(sshConfig)}
	for name, path := range map[string]string{keyFile: r.o.SSHKeyFile, hostsFile: r.o.KnownHostsFile, signersFile: r.o.AllowedSignersFile} {
		if files[name], err = r.operatorFile(path); err != nil {
			return err
		}
	}
	for name, data := range files {
		path := filepath.Join(r.o.RunDir, name)
		// ssh wants its key to be nobody else's.
		if err := os.WriteFile(path, data, 0o400); err != nil {
			return err
		}
		if r.as == nil {
			continue
		}
		if err := os.Lchown(path, int(r.as.Uid), int(r.as.Gid)); err != nil {
			return err
		}
	}
	return nil
}

// operatorFile reads a file that the configuration names; no name: nothing.
func (r *Repository) operatorFile(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxOperatorFile))
}

// sshConfig of all connections. -F has ssh read no other file.
const sshConfig = `Host *
  IdentityFile ` + keyFile + `
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile ` + hostsFile + `
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  UpdateHostKeys no
  BatchMode yes
  PreferredAuthentications publickey
  ConnectTimeout 15
  ServerAliveInterval 10
  ServerAliveCountMax 3
  ClearAllForwardings yes
  ForwardAgent no
  PermitLocalCommand no
  ControlMaster no
`

// gitConfig is all that git is told beside its arguments.
func gitConfig(header, signers string) string {
	out := `[core]
  hooksPath = /dev/null
  attributesFile = /dev/null
  excludesFile = /dev/null
  fsmonitor = false
  askPass =
  sshCommand = ssh -F ` + sshFile + `
  logAllRefUpdates = false
  fsync = committed
  bigFileThreshold = 1m
  packedGitWindowSize = 16m
  packedGitLimit = 256m
[credential]
  helper =
[transfer]
  fsckObjects = true
  unpackLimit = 1
  bundleURI = false
[fetch]
  recurseSubmodules = false
[fetch "fsck"]
  zeroPaddedFilemode = ignore
  missingSpaceBeforeDate = ignore
  badTimezone = ignore
[submodule]
  recurse = false
[maintenance]
  auto = false
[gc]
  auto = 1000
  autoPackLimit = 5
  autoDetach = false
  pruneExpire = now
  packRefs = false
[pack]
  threads = 1
  windowMemory = 64m
[http]
  followRedirects = false
  lowSpeedLimit = 100
  lowSpeedTime = 30
`
	if header != "" {
		out += "  extraHeader = Authorization: Basic " + header + "\n"
	}
	return out + `[gpg]
  minTrustLevel = fully
  program = /nonexistent
[gpg "x509"]
  program = /nonexistent
[gpg "ssh"]
  allowedSignersFile = "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(signers) + `"
`
}

// memoryLimit of git's address space. It maps packs by windows, and streams
// what is larger than a spec may be.
const memoryLimit = 2 << 30

// Run is one run of git.
type Run struct {
	Args      []string
	Stdin     string
	Stdout    io.Writer // instead of the result
	Progress  func(line string)
	WriteMore int64  // files may be larger than MaxSize by this
	Anywhere  bool   // not on the repository
	WorkTree  string // of the repository
}

// Git runs git on the repository.
func (r *Repository) Git(ctx context.Context, args ...string) (string, error) {
	return r.Run(ctx, Run{Args: args})
}

// Run runs git.
func (r *Repository) Run(ctx context.Context, x Run) (string, error) {
	argv := []string{"prlimit", "--core=0", fmt.Sprintf("--fsize=%d", r.o.MaxSize+x.WriteMore), fmt.Sprintf("--as=%d", memoryLimit), "--", "git"}
	if !x.Anywhere {
		argv = append(argv, "--git-dir="+r.o.Dir)
	}
	if x.WorkTree != "" {
		argv = append(argv, "--work-tree="+x.WorkTree)
	}
	c := host.Command{
		Argv: append(argv, x.Args...), Stdin: x.Stdin, Stdout: x.Stdout, Dir: r.o.RunDir, Credential: r.as, DiesWithUs: true,
		Env: []string{
			"HOME=" + r.o.RunDir, "TMPDIR=" + r.o.Dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + filepath.Join(r.o.RunDir, configFile), "GIT_ATTR_NOSYSTEM=1",
			"GIT_ALLOW_PROTOCOL=" + r.scheme, "GIT_TERMINAL_PROMPT=0", "GIT_NO_REPLACE_OBJECTS=1", "GIT_OPTIONAL_LOCKS=0", "GIT_PROTOCOL_FROM_USER=0",
		},
	}
	if x.Progress != nil {
		c.Stderr = &lines{func(line string) { x.Progress(r.clean(line)) }, nil}
	}
	out, err := host.Run(ctx, c)
	if err != nil {
		return "", r.explain(ctx, x.Args[0], err)
	}
	return string(out), nil
}

// maxLine of what git says on its progress.
const maxLine = 1 << 10

// lines hands on lines, and the states of one that is overwritten.
type lines struct {
	line func(string)
	part []byte
}

func (w *lines) Write(p []byte) (int, error) {
	for _, b := range p {
		switch {
		case b == '\n' || b == '\r':
			if text := strings.TrimSpace(string(w.part)); text != "" {
				w.line(text)
			}
			w.part = w.part[:0]
		case len(w.part) < maxLine:
			w.part = append(w.part, b)
		}
	}
	return len(p), nil
}

// clean leaves out of what git or a server said what is secret, and what is no text.
func (r *Repository) clean(said string) string {
	for _, secret := range r.hide {
		said = strings.ReplaceAll(said, secret, "…")
	}
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\n' || unicode.IsPrint(c):
			return c
		case c == '\t':
			return ' '
		}
		return '�'
	}, said)
}

// Error is a run of git that failed.
type Error struct {
	Command string // git's
	Said    string
	Err     error
}

func (e *Error) Error() string {
	if e.Said == "" {
		return fmt.Sprintf("git %s: %v", e.Command, e.Err)
	}
	return fmt.Sprintf("git %s: %s", e.Command, e.Said)
}

func (e *Error) Unwrap() error { return e.Err }

// withoutProgress leaves out lines that were overwritten, or only tell of progress.
func withoutProgress(said string) string {
	var kept []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		line = line[strings.LastIndexByte(line, '\r')+1:]
		if !strings.Contains(line, "% (") && !strings.HasSuffix(line, "done.") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// explain says what failed without what is secret and without our own arguments.
func (r *Repository) explain(ctx context.Context, command string, err error) error {
	failed, ok := errors.AsType[*host.RunError](err)
	if !ok {
		return err
	}
	said := r.clean(withoutProgress(failed.Stderr))
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		said = strings.TrimSpace(fmt.Sprintf("it took longer than %s (timeout); %s", r.o.Timeout, said))
		said = strings.TrimSuffix(said, ";")
	}
	return &Error{Command: command, Said: said, Err: failed.Err}
}
