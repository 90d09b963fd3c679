package onhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
	"tekton.host/pkg/doctor"
	"tekton.host/pkg/host"
	"tekton.host/pkg/machine/launch"
	"tekton.host/pkg/secret"
	"tekton.host/pkg/source"
	"tekton.host/pkg/spec"
	"tekton.host/pkg/supervise/contract"
)

// processesOf are those of a service of ours; none where it does not run.
func processesOf(dir string) []int {
	var s contract.Status
	raw, err := os.ReadFile(filepath.Join(dir, contract.StatusFile))
	if err != nil || json.Unmarshal(raw, &s) != nil || s.HostBoot != contract.HostBoot() || !s.ExitedAt.IsZero() {
		return nil
	}
	return []int{s.Supervisor, s.PID}
}

// dirs are those that the daemon makes, with the modes that it makes them with.
func dirs(h v1alpha1.HostSpec, l host.Layout) ([]doctor.Dir, map[string]string) {
	out := []doctor.Dir{
		{Field: "stateDir", Path: l.State, Want: 0o711, Most: 0o755, Precious: true},
		{Field: "runDir", Path: l.Run, Want: 0o711, Most: 0o755},
		{Field: "secretsDir", Path: l.Secrets, Want: 0o700, Most: 0o700, Precious: true},
	}
	for i := range out {
		d := &out[i]
		info, err := os.Stat(d.Path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if d.Err = reason(err); err != nil {
			continue
		}
		d.Exists, d.Mode = true, doctor.Perm(info.Mode().Perm())
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			d.UID = st.Uid
		}
	}
	return out, refusedSecrets(l, out[2].Exists)
}

// refusedSecrets asks who reads secrets for the daemon; their values go nowhere.
func refusedSecrets(l host.Layout, exists bool) map[string]string {
	if !exists || os.Geteuid() != 0 {
		return nil
	}
	s, err := secret.Open(l.Secrets, secret.Key{})
	if err != nil {
		return nil
	}
	snapshot, err := s.Snapshot()
	if err != nil {
		return map[string]string{"*": err.Error()}
	}
	return snapshot.Refused
}

// disks are the file systems that we write to, each once.
func disks(l host.Layout) []doctor.Disk {
	var out []doctor.Disk
	seen := map[unix.Fsid]bool{}
	for _, path := range []string{l.State, l.Run, "/nix/store"} {
		if path = existing(path); path == "/nix" || path == "/" && len(out) > 0 {
			continue
		}
		d := doctor.Disk{Path: path, Type: launch.FileSystem(path)}
		var s unix.Statfs_t
		if err := unix.Statfs(path, &s); err != nil {
			d.Err = err.Error()
		} else if seen[s.Fsid] {
			continue
		}
		seen[s.Fsid] = true
		d.Free, d.Size = s.Bavail*uint64(s.Bsize), s.Blocks*uint64(s.Bsize)
		d.FreeInodes, d.Inodes = s.Ffree, s.Files
		out = append(out, d)
	}
	return out
}

// daemon asks the one that runs for itself, its objects and its sources.
func daemon(ctx context.Context, c *client.Client, h v1alpha1.HostSpec) (doctor.Daemon, []doctor.Source) {
	var d doctor.Daemon
	version, err := c.Version(ctx)
	if err != nil {
		d.Err = err.Error()
		return d, nil
	}
	d.Version, d.Installation = version.Version, version.Installation
	items, err := c.List(ctx)
	if err != nil {
		d.Err = err.Error()
		return d, nil
	}
	for _, i := range items {
		if p := i.Status.Phase; p == v1alpha1.PhaseReady || p == v1alpha1.PhaseDeleting || p.Resting() {
			d.Ready++ // it needs nobody's attention
			continue
		}
		d.NotReady = append(d.NotReady, fmt.Sprintf("%s (%s)", i.Metadata.Name, i.Status.Phase))
	}
	statuses, err := c.Sources(ctx)
	if err != nil {
		d.Err = err.Error()
		return d, nil
	}
	problems, err := c.Problems(ctx)
	d.Err = reason(err)
	return d, asSources(statuses, problems)
}

// asSources are sources as the daemon knows them.
func asSources(statuses []v1alpha1.SourceStatus, problems []spec.Problem) (out []doctor.Source) {
	for _, s := range statuses {
		found := doctor.Source{Name: s.Name, Where: s.Path, Objects: s.Objects, Held: len(s.Held)}
		if !s.Complete {
			found.Err = s.Message
		}
		if s.Git != nil {
			found.Where, found.Err = s.Git.URL, s.Git.Error
		}
		for _, p := range problems {
			if s.Git == nil && filepath.Dir(p.File) == s.Path {
				found.Problems = append(found.Problems, p.Error())
			}
		}
		out = append(out, found)
	}
	return out
}

// sources reads directories as the daemon would, where none runs.
func sources(ctx context.Context, h v1alpha1.HostSpec) (out []doctor.Source) {
	for _, c := range h.Sources {
		s := doctor.Source{Name: c.Name, Where: c.Path}
		if c.Git != nil {
			s.Where = c.Git.URL
			s.Err = reason(filesOf(c.Git))
			out = append(out, s)
			continue
		}
		if _, err := os.Stat(c.Path); errors.Is(err, fs.ErrNotExist) && c.Path == filepath.Join(h.StateDir, "specs") {
			out = append(out, s) // the daemon makes it
			continue
		}
		d, err := source.New(source.Options{Name: c.Name, Path: c.Path, Decode: func(file string, data []byte) ([]spec.Object, []spec.Problem) {
			return spec.Decode(file, data, spec.Options{Host: &h, Allow: c.Allow})
		}})
		if err == nil {
			snapshot := d.Snapshot(ctx)
			err, s.Objects = snapshot.Err, len(snapshot.Objects)
			for _, p := range snapshot.Problems {
				s.Problems = append(s.Problems, p.Error())
			}
		}
		s.Err = reason(err)
		out = append(out, s)
	}
	return out
}

// filesOf says which files that a git source needs cannot be read.
func filesOf(g *v1alpha1.GitSource) error {
	files := []string{g.Auth.SSHKeyFile, g.Auth.KnownHostsFile, g.Auth.TokenFile}
	if g.Verify != nil {
		files = append(files, g.Verify.AllowedSignersFile)
	}
	var errs []error
	for _, name := range files {
		if name == "" {
			continue
		}
		f, err := os.Open(name)
		if err == nil {
			f.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
