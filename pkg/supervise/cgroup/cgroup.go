package cgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Groups inside a unit's: that of the supervisor and that of the process. The
// kernel hands controllers down only from groups without processes, so the
// unit's own group has none.
const (
	Own  = "supervise"
	Main = "main"
)

// markAttr is the extended attribute of a group's directory that says whose it is.
const markAttr = "trusted.tekton.mark"

// Host is where the hierarchies are mounted.
type Host struct {
	Root   string // cgroup v2
	Legacy string // v1 name=systemd, "" when there is none
}

// Find looks where systemd and its peers mount the hierarchies.
func Find() (Host, error) {
	const base = "/sys/fs/cgroup"
	if exists(base + "/cgroup.controllers") {
		return Host{Root: base}, nil
	}
	if !exists(base + "/unified/cgroup.controllers") {
		return Host{}, errors.New("no cgroup v2 hierarchy at /sys/fs/cgroup or /sys/fs/cgroup/unified; mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified")
	}
	h := Host{Root: base + "/unified"}
	if exists(base + "/systemd/cgroup.procs") {
		h.Legacy = base + "/systemd"
	}
	return h, nil
}

// Group returns the group at a path below the hierarchy's root.
func (h Host) Group(path string) Group { return Group{host: h, path: filepath.Join("/", path)} }

// Self returns the group that this process is in.
func (h Host) Self() (Group, error) { return h.of("self") }

// Of returns the group that a process is in.
func (h Host) Of(pid int) (Group, error) { return h.of(strconv.Itoa(pid)) }

func (h Host) of(process string) (Group, error) {
	file := "/proc/" + process + "/cgroup"
	b, err := os.ReadFile(file)
	if err != nil {
		return Group{}, err
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return h.Group(path), nil
		}
	}
	return Group{}, errors.New(file + " names no cgroup v2")
}

// Group is one cgroup, which may not exist yet.
type Group struct {
	host Host
	path string
}

// Dir is the group's directory.
func (g Group) Dir() string { return g.host.Root + g.path }

// Path is the group's path in the hierarchy, "" for the zero Group.
func (g Group) Path() string { return g.path }

// Name is the last part of its path.
func (g Group) Name() string { return filepath.Base(g.path) }

// Child is a group inside this one.
func (g Group) Child(name string) Group { return g.host.Group(filepath.Join(g.path, name)) }

// Upper is the group called name that this one lies in, or is.
func (g Group) Upper(name string) (Group, bool) {
	for ; g.path != "/" && g.path != ""; g.path = filepath.Dir(g.path) {
		if g.Name() == name {
			return g, true
		}
	}
	return Group{}, false
}

// Create makes the group and those above it. It tries again when one above is
// removed, being empty, at the same moment.
func (g Group) Create() error {
	var err error
	for range 5 {
		if err = os.MkdirAll(g.Dir(), 0o755); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("create cgroup: %w", err)
	}
	return nil
}

// Exists reports whether the group exists.
func (g Group) Exists() bool { return exists(g.Dir() + "/cgroup.procs") }

// Open returns the group's directory for clone3. The caller closes it.
func (g Group) Open() (*os.File, error) {
	return os.OpenFile(g.Dir(), unix.O_DIRECTORY|unix.O_PATH, 0)
}

// Join moves this process into the group.
func (g Group) Join() error { return g.write("cgroup.procs", "0") }

// SetMark says on the group itself whose it is.
func (g Group) SetMark(mark string) error {
	if err := unix.Setxattr(g.Dir(), markAttr, []byte(mark), 0); err != nil {
		return fmt.Errorf("mark cgroup %s: %w", g.path, err)
	}
	return nil
}

// Mark returns what SetMark wrote, "" when nothing was.
func (g Group) Mark() string {
	buf := make([]byte, 256)
	n, err := unix.Getxattr(g.Dir(), markAttr, buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// Children returns the groups directly inside this one.
func (g Group) Children() ([]Group, error) {
	entries, err := os.ReadDir(g.Dir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Group
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, g.Child(e.Name()))
		}
	}
	return out, nil
}

// Procs returns the processes in the group and in those inside it.
func (g Group) Procs() ([]int, error) {
	var pids []int
	err := walk(g.Dir(), func(fd int) error {
		f, err := openAt(fd, "cgroup.procs", unix.O_RDONLY)
		if err != nil {
			return ignoreGone(err)
		}
		defer f.Close()
		b, err := io.ReadAll(f)
		for field := range bytes.FieldsSeq(b) {
			if pid, err := strconv.Atoi(string(field)); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return ignoreGone(err)
	}, func(int, string) error { return nil })
	return pids, err
}

// Populated reports whether a live process is in the group or inside it.
func (g Group) Populated() (bool, error) {
	b, err := os.ReadFile(g.Dir() + "/cgroup.events")
	if err != nil {
		return false, ignoreGone(err)
	}
	return bytes.Contains(b, []byte("populated 1")), nil
}

// Kill sends SIGKILL to all processes in the group and inside it.
func (g Group) Kill() error {
	err := g.write("cgroup.kill", "1")
	if err == nil || !g.Exists() {
		return nil
	}
	// Kernels before 5.14 have no cgroup.kill.
	pids, err := g.Procs()
	for _, pid := range pids {
		if e := unix.Kill(pid, unix.SIGKILL); e != nil && !errors.Is(e, unix.ESRCH) {
			err = errors.Join(err, fmt.Errorf("kill %d: %w", pid, e))
		}
	}
	return err
}

// KillAll kills until the group is empty or ctx ends. A process that forks
// faster than it is killed one by one is caught by the repetition.
func (g Group) KillAll(ctx context.Context) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		populated, err := g.Populated()
		if err != nil || !populated {
			return err
		}
		if err := g.Kill(); err != nil {
			return fmt.Errorf("kill cgroup %s: %w", g.path, err)
		}
		if err := pause(ctx, wait); err != nil {
			return fmt.Errorf("processes in cgroup %s do not die: %w", g.path, err)
		}
	}
}

// Remove removes the group, what is inside it, and its copies in the legacy
// hierarchy. Gone already is success. The kernel lets go of a group a moment
// after its last process died, hence the retry.
func (g Group) Remove(ctx context.Context) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := removeTree(g.Dir())
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
		if e := pause(ctx, wait); e != nil {
			return fmt.Errorf("remove cgroup: %w: %w", err, e)
		}
	}
	if g.host.Legacy != "" {
		// Never ours to insist on: it is nspawn's bookkeeping.
		_ = removeTree(g.host.Legacy + g.path)
	}
	return nil
}

// RemoveEmpty removes the group if nothing is in it.
func (g Group) RemoveEmpty() {
	_ = unix.Rmdir(g.Dir())
	if g.host.Legacy != "" {
		_ = unix.Rmdir(g.host.Legacy + g.path)
	}
}

func (g Group) write(file, value string) error {
	f, err := os.OpenFile(g.Dir()+"/"+file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

func (g Group) read(file string) string {
	b, _ := os.ReadFile(g.Dir() + "/" + file)
	return strings.TrimSpace(string(b))
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
