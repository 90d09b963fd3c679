package webhook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/forge"
)

// buriedFor is how long a spec's removal stays to be seen by the daemon.
const buriedFor = 10 * time.Second

var errDaemon = errors.New("the daemon has not said yet which repositories there are")

// look finds out what a key's pull request, or branch, is now, and sees to it
// that the host is told.
func (s *Server) look(ctx context.Context, k Key) error {
	mark := s.journal.Mark(k)
	err := s.lookAt(ctx, k)
	if err != nil {
		s.metrics.looks.WithLabelValues("error").Inc()
		s.log.Info("a look failed; it is tried again", "what", k.String(), "why", err.Error())
		return err
	}
	s.metrics.looks.WithLabelValues("done").Inc()
	s.journal.Done(k, mark)
	return nil
}

func (s *Server) lookAt(ctx context.Context, k Key) error {
	view := s.watcher.View()
	if !view.Known {
		return errDaemon
	}
	f, ok := s.forges[k.Forge]
	if !ok {
		return nil // it was configured when the delivery came
	}
	if k.Branch != "" {
		return s.pushed(ctx, f, k)
	}
	name, policy := owner(view, f, k.Repository)
	if policy == nil {
		// A name that was mistyped, or is another one since the repository was moved.
		s.once("deliveries come of a repository that no Repository names, or that one is refused; nothing is done about them", "forge", k.Forge, "repository", k.Repository.String())
		return nil // a sweep sees to what there is of it
	}
	r := Ref{name, k.Number}
	return s.looked(r, s.lookAtPull(ctx, f, k, r, policy))
}

// maxSaid bounds what is remembered of what was told.
const maxSaid = 1000

// once logs what would be told again at each look.
func (s *Server) once(message string, about ...any) {
	key := fmt.Sprint(append(about, message)...)
	s.mu.Lock()
	known := s.said[key] || len(s.said) >= maxSaid
	if !known {
		s.said[key] = true
	}
	s.mu.Unlock()
	if !known {
		s.log.Info(message, about...)
	}
}

func (s *Server) lookAtPull(ctx context.Context, f Forge, k Key, r Ref, policy *v1alpha1.RepositorySpec) error {
	v, err := s.judge(ctx, f, k, r.Repository, policy)
	if another, ok := errors.AsType[*anotherError](err); ok {
		s.once("what a url leads to is not what is meant; its previews stay as they are", "repository", r.Repository, "why", another.Error())
		return s.leave(r)
	}
	if errors.Is(err, forge.ErrNotFound) {
		// It may be gone, or hidden from us: nobody says that it was closed.
		s.log.Info("the forge does not show a pull request; nothing is changed", "what", k.String())
		return s.leave(r)
	}
	if err != nil {
		return err
	}
	return s.settle(r, k, policy, v)
}

// owner is the Repository object that a forge's repository belongs to: the first by name.
func owner(view View, f Forge, at forge.Repository) (string, *v1alpha1.RepositorySpec) {
	first := ""
	for name, spec := range view.Repositories {
		if spec == nil || first != "" && name > first {
			continue
		}
		if found, ok := locate(spec.URL, f.URL); ok && sameRepository(found, at) {
			first = name
		}
	}
	return first, view.Repositories[first]
}

// judge asks the forge for the truth, as little as will do.
func (s *Server) judge(ctx context.Context, f Forge, k Key, name string, repository *v1alpha1.RepositorySpec) (Verdict, error) {
	pr, err := f.Client.PullRequest(ctx, k.Repository, k.Number)
	if err != nil {
		return Verdict{}, fmt.Errorf("ask for pull request %s: %w", k, err)
	}
	if err := s.meant.check(name, repository.URL, pr.RepositoryID); err != nil {
		return Verdict{}, err
	}
	policy := repository.PullRequests
	if v := Excluded(policy, pr); v.State != "" {
		return v, nil
	}
	comments, err := f.Client.Comments(ctx, k.Repository, k.Number)
	if err != nil {
		return Verdict{}, fmt.Errorf("ask for the comments of %s: %w", k, err)
	}
	commands := Commands(comments)
	may := map[string]bool{}
	for _, c := range commands {
		if _, asked := may[c.Author]; asked {
			continue
		}
		may[c.Author], err = f.Client.MayWrite(ctx, k.Repository, c.Author)
		if errors.Is(err, forge.ErrRefused) && !needsCommand(policy, pr) {
			s.once("who may write is not told, and nobody's commands count where none is needed; tekton-webhook --check says more", "forge", k.Forge, "repository", k.Repository.String(), "why", err.Error())
			err = nil
		}
		if err != nil {
			return Verdict{}, fmt.Errorf("ask what %s may do in %s: %w", c.Author, k.Repository, err)
		}
	}
	return Decide(policy, pr, slices.DeleteFunc(commands, func(c Command) bool { return !may[c.Author] })), nil
}

// settle makes the spec what the verdict says, as far as there is room.
func (s *Server) settle(r Ref, k Key, repository *v1alpha1.RepositorySpec, v Verdict) error {
	s.placing.Lock()
	defer s.placing.Unlock()
	e, err := s.store.Read(r)
	if err != nil {
		return err
	}
	if !v.Shown() {
		return s.close(r, k, e, v)
	}
	text, name, err := previewSpec(r, repository, e.Preview, v)
	if err != nil {
		return err
	}
	rec := Record{Key: k, Preview: name, Digest: digest(text, v)}
	if e.State != SpecPresent {
		item := s.watcher.View().Previews[s.store.File(r)]
		going := item == nil || item.Status.Phase == v1alpha1.PhaseDeleting
		if e.State == SpecAbsent && going && e.Record != nil && e.Record.Digest == rec.Digest {
			v.State, v.Message = StateTaken, "its preview was deleted on the host; the next commit or /preview brings it back"
			s.conclude(r, k, v, "")
			return s.makeRoom(r)
		}
		if v.State, v.Message, err = s.room(r, waiter{k, v.Opened}, repository); err != nil {
			return err
		}
	}
	if !v.Shown() {
		s.conclude(r, k, v, "")
		if e.State == SpecBuried {
			return s.fillRoom() // what it had itself is now that of older ones
		}
		return nil
	}
	if err := s.store.Put(r, e, text, rec); err != nil {
		return err
	}
	if e.State != SpecPresent || string(e.Text) != string(text) {
		s.log.Info("wrote a preview", "what", k.String(), "preview", name, "commit", v.Commit)
	}
	delete(s.rooms, r)
	s.conclude(r, k, v, name)
	return nil
}

// close removes a spec, and says so.
func (s *Server) close(r Ref, k Key, e Entry, v Verdict) error {
	if err := s.bury(r, e, v.Message); err != nil {
		return err
	}
	s.conclude(r, k, v, e.Preview)
	return s.makeRoom(r)
}

// bury removes a spec step by step: the document first, and the file when the
// daemon has nothing of it any more.
func (s *Server) bury(r Ref, e Entry, why string) error {
	view := s.watcher.View()
	switch {
	case e.State == SpecPresent:
		s.log.Info("removed a preview", "repository", r.Repository, "number", r.Number, "preview", e.Preview, "why", why)
		return s.store.Bury(r)
	case e.State == SpecBuried && view.Known && view.Previews[s.store.File(r)] == nil && time.Since(e.Changed) > buriedFor:
		// What is gone by us is wanted again at once, whenever it is opened again.
		if err := s.store.Unwant(r, e); err != nil {
			return err
		}
		return s.store.Remove(r)
	}
	return nil
}

// leave ends that a pull request waits for room.
func (s *Server) leave(r Ref) error {
	s.placing.Lock()
	defer s.placing.Unlock()
	return s.makeRoom(r)
}
