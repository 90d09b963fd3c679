package git

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"tekton.host/pkg/host"
)

// runner runs git on a source's mirror, with a directory that it can read and
// not write: its configuration and copies of the operator's files.
type runner struct {
	*Source
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

// newRunner makes the run directory and, where it is missing, the mirror's.
func (s *Source) newRunner() (*runner, error) {
	r := &runner{Source: s}
	r.scheme, _, _ = strings.Cut(s.URL, "://")
	if os.Geteuid() == 0 {
		if err := r.lookUp(); err != nil {
			return nil, err
		}
	}
	for dir, mode := range map[string]os.FileMode{filepath.Dir(s.Dir): 0o711, filepath.Dir(s.RunDir): 0o711} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return nil, fmt.Errorf("make %s: %w", dir, err)
		}
	}
	if err := r.makeRunDir(); err != nil {
		r.close()
		return nil, fmt.Errorf("prepare a run of git: %w", err)
	}
	return r, nil
}

func (r *runner) close() { os.RemoveAll(r.RunDir) }

func (r *runner) lookUp() error {
	u, err := user.Lookup(r.User)
	if err != nil {
		return fmt.Errorf("find the user that git runs as: %w; make it (useradd --system %s), or name another in spec.git.user of the Host", err, r.User)
	}
	uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(errUID, errGID); err != nil {
		return fmt.Errorf("ids of the user %s: %w", r.User, err)
	}
	if uid == 0 {
		return fmt.Errorf("the user %s is root, which git must not run as; name another in spec.git.user of the Host", r.User)
	}
	r.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return nil
}

func (r *runner) makeRunDir() error {
	r.close() // of a run that was killed
	if err := os.Mkdir(r.RunDir, 0o711); err != nil {
		return err
	}
	token, err := r.operatorFile(r.TokenFile)
	if err != nil {
		return err
	}
	header := ""
	if token := strings.TrimSpace(string(token)); token != "" {
		header = base64.StdEncoding.EncodeToString([]byte(r.Username + ":" + token))
		r.hide = []string{token, header}
	}
	files := map[string][]byte{configFile: []byte(gitConfig(header, filepath.Join(r.RunDir, signersFile))), sshFile: []byte(sshConfig)}
	for name, path := range map[string]string{keyFile: r.SSHKeyFile, hostsFile: r.KnownHostsFile, signersFile: r.AllowedSignersFile} {
		if files[name], err = r.operatorFile(path); err != nil {
			return err
		}
	}
	for name, data := range files {
		path := filepath.Join(r.RunDir, name)
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
func (r *runner) operatorFile(path string) ([]byte, error) {
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
[submodule]
  recurse = false
[maintenance]
  auto = false
[gc]
  auto = 1000
  autoPackLimit = 5
  autoDetach = false
  pruneExpire = now
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

// run is one run of git.
type run struct {
	args      []string
	stdin     string
	stdout    io.Writer // instead of the result
	writeMore int64     // files may be larger than MaxSize by this
	anywhere  bool      // not on the mirror
}

func (r *runner) git(ctx context.Context, args ...string) (string, error) {
	return r.start(ctx, run{args: args})
}

func (r *runner) start(ctx context.Context, x run) (string, error) {
	argv := []string{"prlimit", "--core=0", fmt.Sprintf("--fsize=%d", r.MaxSize+x.writeMore), fmt.Sprintf("--as=%d", memoryLimit), "--", "git"}
	if !x.anywhere {
		argv = append(argv, "--git-dir="+r.Dir)
	}
	out, err := host.Run(ctx, host.Command{
		Argv: append(argv, x.args...), Stdin: x.stdin, Stdout: x.stdout, Dir: r.RunDir, Credential: r.as, DiesWithUs: true,
		Env: []string{
			"HOME=" + r.RunDir, "TMPDIR=" + r.Dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + filepath.Join(r.RunDir, configFile), "GIT_ATTR_NOSYSTEM=1",
			"GIT_ALLOW_PROTOCOL=" + r.scheme, "GIT_TERMINAL_PROMPT=0", "GIT_NO_REPLACE_OBJECTS=1", "GIT_OPTIONAL_LOCKS=0", "GIT_PROTOCOL_FROM_USER=0",
		},
	})
	if err != nil {
		return "", r.explain(ctx, x.args[0], err)
	}
	return string(out), nil
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

// explain says what failed without what is secret and without our own arguments.
func (r *runner) explain(ctx context.Context, command string, err error) error {
	failed, ok := errors.AsType[*host.RunError](err)
	if !ok {
		return err
	}
	said := failed.Stderr
	for _, secret := range r.hide {
		said = strings.ReplaceAll(said, secret, "…")
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		said = strings.TrimSpace(fmt.Sprintf("it took longer than %s (timeout); %s", r.Timeout, said))
		said = strings.TrimSuffix(said, ";")
	}
	return &Error{Command: command, Said: said, Err: failed.Err}
}
