package webhook

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
	"tekton.host/pkg/forge"
)

const (
	// syncTimeout of a source that was pushed to.
	syncTimeout = 5 * time.Minute
	// sweepRetry after the first one that failed.
	sweepRetry = time.Minute
)

// requestSweep has all repositories looked at soon.
func (s *Server) requestSweep() {
	select {
	case s.sweeps <- struct{}{}:
	default: // one is coming
	}
}

// sweepAll looks now and then at what events may have missed.
func (s *Server) sweepAll(ctx context.Context) {
	tick := time.NewTicker(s.options.Sweep)
	defer tick.Stop()
	var retry <-chan time.Time // of the last sweep, if it failed: one, whoever asked for that
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.sweeps:
		case <-retry:
		}
		switch err := s.sweep(ctx); {
		case ctx.Err() != nil:
		case err == nil:
			retry, failures = nil, 0
			s.metrics.swept.SetToCurrentTime()
		default:
			s.log.Info("a sweep could not look at all; there will be another", "why", err.Error())
			retry = time.After(sweepPause(err, failures, s.options.Sweep))
			failures++
		}
	}
}

// sweepPause after a sweep that failed, and so many before it: it doubles up to
// the time between two, and is as long as a forge asks for.
func sweepPause(err error, failures int, most time.Duration) time.Duration {
	pause := min(sweepRetry<<min(failures, 20), most)
	if retry, ok := errors.AsType[*forge.RetryError](err); ok {
		pause = min(max(pause, retry.After), longestPause)
	}
	return pause
}

// sweep has every pull request looked at that is open, or that we have anything of.
func (s *Server) sweep(ctx context.Context) error {
	view := s.watcher.View()
	if !view.Known {
		return errDaemon
	}
	for _, k := range s.journal.Pending() {
		s.looks.add(k) // what failed need not wait longer
	}
	refs, err := s.store.Refs()
	if err != nil {
		return err
	}
	told, err := s.told(view)
	if err != nil {
		return err
	}
	refs = append(refs, told...)
	errs := []error{s.meant.forget(func(name string) bool { _, has := view.Repositories[name]; return has })}
	for _, name := range slices.Sorted(maps.Keys(view.Repositories)) {
		if spec := view.Repositories[name]; spec != nil {
			errs = append(errs, s.sweepRepository(ctx, view, name, spec, refs))
		}
	}
	return errors.Join(append(errs, s.sweepRest(view, refs))...)
}

// told are the pull requests of Repositories that a forge was told of: there is
// neither spec nor record of one that waits for an approval, and it may be closed by now.
func (s *Server) told(view View) ([]Ref, error) {
	if s.options.Teller == nil {
		return nil, nil
	}
	keys, err := s.options.Teller.Told()
	if err != nil {
		return nil, err
	}
	var refs []Ref
	for _, k := range keys {
		f, known := s.forges[k.Forge]
		if name, policy := owner(view, f, k.Repository); known && policy != nil {
			refs = append(refs, Ref{name, k.Number})
		}
	}
	return refs, nil
}

func (s *Server) sweepRepository(ctx context.Context, view View, name string, spec *v1alpha1.RepositorySpec, refs []Ref) error {
	f, at, ok := forgeOf(s.options.Forges, spec.URL)
	if !ok {
		s.log.Info("a Repository is of no forge that is configured; its previews stay as they are", "repository", name, "url", spec.URL)
		return nil
	}
	if first, _ := owner(view, f, at); first != name {
		s.log.Info("two Repositories have one url; the first by name counts", "repository", name, "first", first)
		var errs []error
		for _, r := range refs {
			if r.Repository == name {
				errs = append(errs, s.abandon(view, r))
			}
		}
		return errors.Join(errs...)
	}
	open, err := f.Client.OpenPullRequests(ctx, at)
	if odd, ok := errors.AsType[*forge.OddError](err); ok {
		if s.odd[name] != odd.Error() { // it is told once
			s.log.Info("pull requests are left out, which are not as a forge shows them", "repository", name, "why", odd.Error())
		}
		s.odd[name] = odd.Error()
	} else if err != nil {
		return fmt.Errorf("ask for the pull requests of %s: %w", at, err)
	}
	s.placing.Lock()
	defer s.placing.Unlock()
	numbers := map[int]bool{}
	for _, pr := range open {
		numbers[pr.Number] = true
		// Until each was looked at, a younger one takes no room of an older one.
		if r := (Ref{name, pr.Number}); s.limited(spec) && s.failing[r] < patience {
			s.rooms[r] = waiter{Key{Forge: f.Name, Repository: at, Number: pr.Number}.folded(), pr.Opened}
		}
	}
	for _, r := range refs {
		if r.Repository == name {
			numbers[r.Number] = true
		}
	}
	for r := range s.rooms {
		if r.Repository == name {
			numbers[r.Number] = true
		}
	}
	for _, n := range slices.Sorted(maps.Keys(numbers)) {
		s.looks.add(Key{Forge: f.Name, Repository: at, Number: n}.folded())
	}
	return nil
}

// sweepRest removes the previews of Repositories that the daemon says it does not have.
func (s *Server) sweepRest(view View, refs []Ref) error {
	var errs []error
	for _, r := range refs {
		if _, has := view.Repositories[r.Repository]; !has {
			errs = append(errs, s.abandon(view, r))
		}
	}
	return errors.Join(errs...)
}

// abandon a pull request whose Repository object does not count any more.
func (s *Server) abandon(view View, r Ref) error {
	s.placing.Lock()
	defer s.placing.Unlock()
	delete(s.rooms, r)
	e, err := s.store.Read(r)
	if err != nil {
		return err
	}
	v := Verdict{State: StateNoPolicy, Message: "the host does not show pull requests of this repository any more"}
	if err := s.bury(r, e, v.Message); err != nil || e.Record == nil {
		return err
	}
	k := e.Record.Key
	if f, ok := s.forges[k.Forge]; ok {
		if _, other := owner(view, f, k.Repository); other == nil {
			s.conclude(r, k, v, e.Preview)
			return nil
		}
	}
	if e.State == SpecAbsent {
		return s.store.Forget(r) // another Repository tells of the pull request, or nobody can
	}
	return nil
}

// pushed has the daemon look at the remotes of its sources that a branch is of.
func (s *Server) pushed(ctx context.Context, f Forge, k Key) error {
	sources, err := s.options.Daemon.Sources(ctx)
	if err != nil {
		return fmt.Errorf("ask the daemon for its sources: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	for _, source := range sources {
		if source.Git == nil || source.Git.Branch != k.Branch {
			continue
		}
		at, ok := locate(source.Git.URL, f.URL)
		if !ok || !sameRepository(at, k.Repository) {
			continue
		}
		_, err := s.options.Daemon.SyncSource(ctx, source.Name)
		if _, away := errors.AsType[*client.UnreachableError](err); away {
			return fmt.Errorf("have source %s look at its remote: %w", source.Name, err)
		}
		if err != nil { // the daemon shows it, and looks again by itself
			s.log.Info("a source that was pushed to is not in effect", "source", source.Name, "why", err.Error())
		}
	}
	return nil
}
