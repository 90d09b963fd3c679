package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/server/wire"
	"tekton.host/pkg/source/git"
	"tekton.host/pkg/spec"
)

// newGit returns the source of a repository.
func (d *Daemon) newGit(c v1alpha1.SourceConfig) (*git.Source, error) {
	g := c.Git
	o := git.Options{
		Name: c.Name, URL: g.URL, Branch: g.Branch, Path: g.Path, Interval: g.Interval.Duration, Timeout: g.Timeout.Duration,
		MaxSize: g.MaxSize.Bytes, Partial: g.Partial,
		SSHKeyFile: g.Auth.SSHKeyFile, KnownHostsFile: g.Auth.KnownHostsFile, TokenFile: g.Auth.TokenFile, Username: g.Auth.Username,
		Dir: filepath.Join(d.layout.Git(), c.Name), RunDir: filepath.Join(d.layout.RunService("git"), c.Name), User: d.opts.Host.Git.User,
		Decode: d.decoder(c), Log: d.opts.Log.WithName("source"),
	}
	if g.Verify != nil {
		o.AllowedSignersFile = g.Verify.AllowedSignersFile
	}
	return git.New(o)
}

// gitStatus is where a source that is a repository stands; nil for others.
func (d *Daemon) gitStatus(name string) *v1alpha1.GitStatus {
	s, found := d.repositories[name]
	if !found {
		return nil
	}
	st := s.Status()
	out := &v1alpha1.GitStatus{
		URL: s.URL, Branch: s.Branch, Commit: st.Commit, CommittedAt: st.CommittedAt, Rejected: st.Rejected, SyncedAt: st.SyncedAt, Suspended: st.Suspended,
	}
	if st.Err != nil {
		out.Error = st.Err.Error()
	}
	return out
}

// withGit adds where repositories stand, which the engine does not know.
func (d *Daemon) withGit(sources []v1alpha1.SourceStatus) []v1alpha1.SourceStatus {
	out := slices.Clone(sources)
	for i := range out {
		out[i].Git = d.gitStatus(out[i].Name)
	}
	return out
}

// repository finds a git source.
func (d *Daemon) repository(name string) (*git.Source, error) {
	if _, err := d.sourceConfig(name); err != nil {
		return nil, err
	}
	s, found := d.repositories[name]
	if !found {
		return nil, conflict(fmt.Sprintf("source %s is a directory, which is watched and needs no sync", name), "list what there is: tekton source list")
	}
	return s, nil
}

// SyncSource implements server.Backend.
func (d *Daemon) SyncSource(ctx context.Context, name string) (v1alpha1.GitStatus, error) {
	s, err := d.repository(name)
	if err != nil {
		return v1alpha1.GitStatus{}, err
	}
	err = s.Sync(ctx)
	rejection, rejected := errors.AsType[*git.Rejection](err)
	switch {
	case err == nil:
		return *d.gitStatus(name), nil
	case errors.Is(err, git.ErrSuspended):
		return v1alpha1.GitStatus{}, conflict(fmt.Sprintf("source %s is suspended", name), "tekton source resume "+name)
	case rejected:
		return v1alpha1.GitStatus{}, &wire.Error{Code: wire.Invalid, Message: fmt.Sprintf("source %s: %v", name, err), Next: "push a commit that mends it; until then the last good one stays", Problems: rejection.Problems}
	}
	return v1alpha1.GitStatus{}, &wire.Error{Code: wire.Unavailable, Message: fmt.Sprintf("source %s: %v", name, err)}
}

// SuspendSource implements server.Backend.
func (d *Daemon) SuspendSource(_ context.Context, name string, suspended bool) error {
	s, err := d.repository(name)
	if err != nil {
		return err
	}
	if suspended {
		return s.Suspend()
	}
	return s.Resume()
}

// refuseCommitted refuses to delete what a commit wants: it would come back.
func (d *Daemon) refuseCommitted(ref v1alpha1.Ref, sourceName string) error {
	s, found := d.repositories[sourceName]
	if !found {
		return nil
	}
	v, err := d.view()
	if err != nil {
		return err
	}
	same := func(o spec.Object) bool { return o.Ref() == ref }
	at := slices.IndexFunc(v.Facts.Snapshots[sourceName].Objects, same)
	if at < 0 {
		return nil
	}
	return &wire.Error{
		Code: wire.Conflict, Message: fmt.Sprintf("%s is wanted by the git source %s, so it would come back", ref, sourceName),
		Next: fmt.Sprintf("remove it from %s of branch %s and push", v.Facts.Snapshots[sourceName].Objects[at].Position, s.Branch),
	}
}
