package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/machine/handover"
)

// ExitError is a failure with the exit code that names its sort.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string { return e.Err.Error() }
func (e *ExitError) Unwrap() error { return e.Err }

// Run does the whole work of the first process. It returns only with an error;
// Code tells the exit code to use.
func Run() error {
	// Whoever stops a machine that still waits must not wait for the kill: as
	// PID 1 only handled signals arrive.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT, handover.HaltSignal)
	go func() {
		s := <-stop
		os.Exit(128 + int(s.(syscall.Signal)))
	}()
	if err := setName(handover.HearingName); err != nil {
		return err
	}
	d, err := handover.Open(handover.FD)
	if err != nil {
		return err
	}
	if err := waitNetwork(d.Addr); err != nil {
		return fmt.Errorf("wait for address %s on %s: %w", d.Addr, handover.Interface, err)
	}
	if err := writeResolver(d.DNS); err != nil {
		return fmt.Errorf("write /etc/resolv.conf: %w", err)
	}
	user, err := lookupUser(d.User)
	if err != nil {
		return err
	}
	owner := user // of credentials, volumes and, where a system boots, variables
	if d.Login != nil {
		if owner, err = prepareLogin(d); err != nil {
			return err
		}
	}
	if err := writeCredentials(d.Files, owner); err != nil {
		return err
	}
	if err := giveVolumes(d.Volumes, owner); err != nil {
		return err
	}
	if len(d.Command) == 0 {
		return boot(d, owner)
	}
	return command(d, user)
}

// Code returns the exit code for an error of Run.
func Code(err error) int {
	if e, ok := errors.AsType[*ExitError](err); ok {
		return e.Code
	}
	return handover.ExitSetup
}

// boot executes the system's own init with the environment that nspawn gave.
// Units read the secrets from a file: init's environment is not theirs.
func boot(d handover.Document, owner user) error {
	if err := writeEnvironmentFile(append(d.Environment, d.SecretEnvironment...), owner); err != nil {
		return err
	}
	env := merge(withoutListen(os.Environ()), d.Environment)
	for _, init := range d.Boot {
		if _, err := os.Stat(init); err == nil {
			return execute(init, []string{init}, env)
		}
	}
	return &ExitError{handover.ExitNotFound, fmt.Errorf("no init in this system, looked for %s: set a command", strings.Join(d.Boot, ", "))}
}

func command(d handover.Document, u user) error {
	env := merge([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LANG=C.UTF-8", "HOME=" + u.home, "USER=" + u.name, "LOGNAME=" + u.name,
		"container=systemd-nspawn",
	}, d.Environment, d.SecretEnvironment)
	if err := u.become(); err != nil {
		return err
	}
	if d.WorkDir == "" {
		d.WorkDir = "/"
	}
	// After the switch: the user's own permissions count.
	if err := os.Chdir(d.WorkDir); err != nil {
		return fmt.Errorf("enter the working directory as %s: %w", u, err)
	}
	path, err := lookPath(d.Command[0], env)
	if err != nil {
		return err
	}
	// To stop a command, nspawn's stub sends SIGTERM and right after it SIGHUP,
	// meant for shells. Unless the command itself wants it, SIGHUP would cut off
	// what it finishes on SIGTERM.
	return execute(path, d.Command, env, syscall.SIGHUP)
}

// execute becomes a program that ignores some signals from its start.
func execute(path string, argv, env []string, ignored ...os.Signal) error {
	// The runtime's own descriptors are close-on-exec already; this covers what was inherited.
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close descriptors: %w", err)
	}
	if err := setName(filepath.Base(handover.InitPath)); err != nil {
		return err
	}
	signal.Reset()
	if len(ignored) > 0 {
		signal.Ignore(ignored...)
	}
	// Capabilities are a thread's: this is the one that executes.
	runtime.LockOSThread()
	if err := inheritNothing(); err != nil {
		return err
	}
	err := syscall.Exec(path, argv, env)
	code := handover.ExitNoExec
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w (the file or the interpreter it names)", err)
		code = handover.ExitNotFound
	}
	return &ExitError{code, fmt.Errorf("execute %s: %w", path, err)}
}

// setName gives the first thread, which runs this, the name that the process shows.
func setName(name string) error {
	text, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(text)), 0, 0, 0); err != nil {
		return fmt.Errorf("set the name of the process: %w", err)
	}
	return nil
}

// inheritNothing empties the inheritable set, which nspawn fills: through it a
// program with capabilities of its own gives them to any user who executes it.
func inheritNothing() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("read the capabilities: %w", err)
	}
	sets[0].Inheritable, sets[1].Inheritable = 0, 0
	if err := unix.Capset(&header, &sets[0]); err != nil {
		return fmt.Errorf("drop the inheritable capabilities: %w", err)
	}
	return nil
}

// lookPath resolves a command's name in the command's own PATH.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := get(env, "PATH")
	denied := ""
	for _, dir := range filepath.SplitList(path) {
		p := filepath.Join(dir, name)
		info, err := os.Stat(p)
		if err != nil || info.IsDir() {
			continue
		}
		if unix.Access(p, unix.X_OK) == nil {
			return p, nil
		}
		denied = p
	}
	if denied != "" {
		return "", &ExitError{handover.ExitNoExec, fmt.Errorf("%s may not be executed: check its mode and the machine's user", denied)}
	}
	return "", &ExitError{handover.ExitNotFound, fmt.Errorf("command %q not found in PATH %s", name, path)}
}

// merge joins environments; a later value replaces an earlier one of the same name.
func merge(envs ...[]string) []string {
	var out []string
	at := map[string]int{}
	for _, env := range envs {
		for _, kv := range env {
			k, _, _ := strings.Cut(kv, "=")
			if i, ok := at[k]; ok {
				out[i] = kv
				continue
			}
			at[k] = len(out)
			out = append(out, kv)
		}
	}
	return out
}

func get(env []string, key string) string {
	for _, kv := range env {
		if k, v, _ := strings.Cut(kv, "="); k == key {
			return v
		}
	}
	return ""
}

// withoutListen drops the socket-activation variables: their descriptor is closed.
func withoutListen(env []string) []string {
	var out []string
	for _, kv := range env {
		if !strings.HasPrefix(kv, "LISTEN_") {
			out = append(out, kv)
		}
	}
	return out
}
