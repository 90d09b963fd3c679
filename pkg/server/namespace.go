package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/server/wire"
)

// namespaceFlags are nsenter's flags by file name in /proc/PID/ns.
var namespaceFlags = []struct{ file, flag string }{
	{"user", "--user"}, {"mnt", "--mount"}, {"uts", "--uts"}, {"ipc", "--ipc"},
	{"net", "--net"}, {"pid", "--pid"}, {"cgroup", "--cgroup"}, {"time", "--time"},
}

// namespaces holds a machine's namespaces and root directory open, so that a
// process id that is used again can never lead into something else.
type namespaces struct {
	files []*os.File // what argv refers to
	argv  []string   // nsenter with its flags
	// root is the flag's value for the machine's root directory.
	root string
	// cgroup of the machine's first process in the unified hierarchy, nil without one.
	cgroup *os.File
}

// enter finds the object's machine and opens its namespaces.
func (s *Server) enter(ctx context.Context, ref v1alpha1.Ref) (*namespaces, Leader, error) {
	leader, err := s.backend.Leader(ctx, ref)
	if err != nil {
		return nil, Leader{}, err
	}
	ns, err := openNamespaces(leader.PID)
	if err != nil {
		return nil, Leader{}, fmt.Errorf("open the namespaces of %s: %w", ref, err)
	}
	// It lived before and after they were opened, so they are its own.
	again, err := s.backend.Leader(ctx, ref)
	if err != nil || again.PID != leader.PID || again.Boot != leader.Boot {
		ns.close()
		if err == nil {
			err = &wire.Error{Code: wire.Unavailable, Message: fmt.Sprintf("the machine of %s is being restarted", ref), Next: "try again when it is Ready: tekton wait --for=condition=Ready " + ref.String()}
		}
		return nil, Leader{}, err
	}
	return ns, leader, nil
}

func openNamespaces(pid int) (_ *namespaces, err error) {
	ns := &namespaces{argv: []string{"nsenter"}}
	defer func() {
		if err != nil {
			ns.close()
		}
	}()
	proc := fmt.Sprintf("/proc/%d", pid)
	for _, n := range namespaceFlags {
		own, err := os.Stat("/proc/self/ns/" + n.file)
		if err != nil {
			continue // the kernel has no such namespaces
		}
		f, err := os.Open(filepath.Join(proc, "ns", n.file))
		if err != nil {
			return nil, err
		}
		ns.files = append(ns.files, f)
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		// The kernel refuses to enter the user namespace that one is in.
		if !os.SameFile(own, info) {
			ns.argv = append(ns.argv, n.flag+"="+descriptor(f))
		}
	}
	root, err := os.Open(proc + "/root")
	if err != nil {
		return nil, err
	}
	ns.files = append(ns.files, root)
	ns.root = descriptor(root)
	ns.argv = append(ns.argv, "--root="+ns.root)
	ns.cgroup, err = openCgroup(proc)
	return ns, err
}

// descriptor is a path by which a child opens a file of ours. Nothing is
// inherited, so nothing of the host is open in the command.
func descriptor(f *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()) }

func (ns *namespaces) close() {
	for _, f := range ns.files {
		f.Close()
	}
	if ns.cgroup != nil {
		ns.cgroup.Close()
	}
}

// command is nsenter's argv for a command in the machine. Without --wd, nsenter
// would keep our working directory, on the host, as the command's. nsenter
// changes everything before it forks the process that the machine can see, so
// that nothing of the host can be reached through it.
func (ns *namespaces) command(workDir string, argv []string) []string {
	wd := []string{"--wd=" + ns.root}
	if workDir != "" {
		wd = []string{"--wdns=" + workDir}
	}
	return concat(ns.argv, wd, []string{"--"}, argv)
}

func concat(parts ...[]string) []string {
	var all []string
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// openCgroup opens the process's cgroup in the unified hierarchy, so that a
// command lives under the machine's limits.
func openCgroup(proc string) (*os.File, error) {
	mount, err := unifiedMount()
	if err != nil || mount == "" {
		return nil, err
	}
	lines, err := os.ReadFile(proc + "/cgroup")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(lines)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if ok && !strings.HasPrefix(path, "/..") { // else outside of what our cgroup namespace shows
			return os.Open(filepath.Join(mount, filepath.Clean("/"+path)))
		}
	}
	return nil, nil
}

// unifiedMount returns where cgroup2 is mounted; empty: nowhere.
func unifiedMount() (string, error) {
	lines, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(lines)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1], nil
		}
	}
	return "", nil
}
