package git

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"tekton.host/pkg/repository"
	"tekton.host/pkg/spec"
)

// Rejection is why a commit is not used.
type Rejection struct {
	Commit   string
	Problems []spec.Problem // of its specs, as COMMIT:PATH
	Err      error          // without Problems: what is wrong with the commit itself
}

func (r *Rejection) Error() string {
	if r.Err != nil {
		return fmt.Sprintf("commit %s is not used: %v", short(r.Commit), r.Err)
	}
	if more := len(r.Problems) - 1; more > 0 {
		return fmt.Sprintf("commit %s is not used: %v; and %d more", short(r.Commit), r.Problems[0], more)
	}
	return fmt.Sprintf("commit %s is not used: %v", short(r.Commit), r.Problems[0])
}

func (r *Rejection) Unwrap() error { return r.Err }

// short is a commit's id for people.
func short(id string) string { return id[:min(len(id), 12)] }

// Watch looks at the remote, at once and then at each interval and when it is
// asked to, until ctx ends. It calls notify when the snapshot has changed.
func (s *Source) Watch(ctx context.Context, notify func()) error {
	for {
		if s.look(ctx) {
			notify()
		}
		// Not all hosts at the same second.
		wait := s.Interval + rand.N(s.Interval/10+1)
		select {
		case <-ctx.Done():
			return nil
		case <-s.asked:
		case <-time.After(wait):
		}
	}
}

// Sync looks at the remote now, and returns when what the branch has is in
// effect, or why it is not.
func (s *Source) Sync(ctx context.Context) error {
	done := make(chan error, 1)
	s.mu.Lock()
	s.waiting = append(s.waiting, done)
	s.mu.Unlock()
	s.ask()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Source) ask() {
	select {
	case s.asked <- struct{}{}:
	default:
	}
}

// look looks once, for all who wait for it, and reports whether the snapshot
// is another one now. Who comes while it is under way waits for the next.
func (s *Source) look(ctx context.Context) (changed bool) {
	s.mu.Lock()
	waiting, before, suspended := s.waiting, s.revision(), s.suspended
	s.waiting = nil
	s.mu.Unlock()

	err, first := ErrSuspended, false
	if !suspended {
		err = s.sync(ctx)
		first = ctx.Err() == nil && s.note(err) // one that the daemon's end cut short says nothing
	}
	for _, w := range waiting {
		w <- err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return first || s.revision() != before
}

// note remembers how a look ended, and reports whether it was the first.
func (s *Source) note(err error) (first bool) {
	rejection, rejected := errors.AsType[*Rejection](err)
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.trouble()
	first, s.attempted = !s.attempted, true
	if s.err = err; rejected {
		s.err, s.rejected = nil, rejection
	} else if err == nil {
		s.rejected = nil
	}
	if err != nil && (told == nil || told.Error() != err.Error()) {
		s.Log.Info("what the branch has is not in effect", "url", s.URL, "branch", s.Branch, "why", err.Error())
	}
	return first
}

// sync brings what the branch has into effect.
func (s *Source) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	if err := s.load(ctx); err != nil {
		return err
	}
	r, err := s.newRunner()
	if err != nil {
		return err
	}
	defer r.Close()
	head, err := r.head(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.syncedAt = s.Now()
	good, rejected := s.good, s.rejected
	s.mu.Unlock()
	switch {
	case good != nil && good.ID == head:
		return nil
	case rejected != nil && rejected.Commit == head && rejected.Err == nil:
		return rejected // the same files have the same problems
	}
	err = s.bring(ctx, r, head)
	if _, rejected := errors.AsType[*Rejection](err); err == nil || rejected || !r.Damaged(ctx) {
		return err
	}
	// What is in effect is in memory, and in the ledger.
	s.Log.Info("the mirror is damaged and is made anew", "why", err.Error())
	if err := errors.Join(r.Remove(), r.Ensure(ctx)); err != nil {
		return err
	}
	return s.bring(ctx, r, head)
}

// bring fetches the branch's commit and brings it into effect.
func (s *Source) bring(ctx context.Context, r *runner, head string) error {
	c, err := r.fetch(ctx, head)
	if err == nil {
		err = s.take(ctx, r, c)
		r.tidied(r.Tidy(ctx))
	}
	return err
}

// take brings a fetched commit into effect, if it may be.
func (s *Source) take(ctx context.Context, r *runner, c repository.Commit) error {
	next, err := s.examine(ctx, r, c)
	if err != nil {
		return err
	}
	if s.isSuspended() {
		return ErrSuspended
	}
	if err := r.accept(ctx, c); err != nil {
		return err
	}
	s.Log.Info("commit in effect", "commit", c.ID, "objects", len(next.objects), "decoded", next.decoded)
	s.mu.Lock()
	s.good, s.rejected = next, nil
	s.mu.Unlock()
	return nil
}

// examine reads a commit that may be used; else it returns a Rejection.
func (s *Source) examine(ctx context.Context, r *runner, c repository.Commit) (*reading, error) {
	if s.AllowedSignersFile != "" {
		if err := r.verify(ctx, c.ID); err != nil {
			return nil, err
		}
	}
	next, err := s.read(ctx, r, c)
	if err != nil {
		return nil, err
	}
	if problems := next.all(); len(problems) > 0 && !s.Partial {
		return nil, &Rejection{Commit: c.ID, Problems: problems}
	}
	return next, nil
}

// load reads the commit that was in effect when the last daemon ended, once.
// Its error says why the mirror could not be used. A damaged one is gone then.
func (s *Source) load(ctx context.Context) error {
	s.loading.Lock()
	defer s.loading.Unlock()
	if s.isLoaded() {
		return nil
	}
	r, err := s.newRunner()
	if err != nil {
		return nil // the look tells
	}
	defer r.Close()
	c, found, err := r.recall(ctx)
	var last *reading
	if err == nil && found {
		last, err = s.examine(ctx, r, c)
	}
	if ctx.Err() != nil {
		return nil // the next one tries again
	}
	// Rejected now: the configuration has changed since, of signers or of what is admitted.
	rejection, rejected := errors.AsType[*Rejection](err)
	if err != nil && !rejected {
		if !r.Damaged(ctx) {
			return err
		}
		s.Log.Info("the mirror is damaged and is made anew", "why", err.Error())
		if err := r.Remove(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded, s.good, s.rejected = true, last, rejection
	return nil
}

func (s *Source) isLoaded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loaded
}
