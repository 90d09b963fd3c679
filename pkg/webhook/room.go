package webhook

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/forge"
)

// rooms remembers which pull requests want a preview, or may want one, and wait
// for room: the oldest goes first. What a restart forgets the first sweep finds again.
type rooms map[Ref]waiter

// waiter is a pull request, and when it was opened.
type waiter struct {
	key    Key
	opened time.Time
}

// sorted are those that wait, the oldest first.
func (w rooms) sorted() []Ref {
	return slices.SortedFunc(maps.Keys(w), func(a, b Ref) int {
		return cmp.Or(w[a].opened.Compare(w[b].opened), compareRefs(a, b))
	})
}

// patience is how many looks in a row may fail, each for something that will pass
// by what the forge says, before a pull request holds no room any more.
const patience = 5

// looked notes how a look at a pull request went. One that fails for good, as far
// as can be known, lets younger ones go first until a look at it succeeds: they
// would wait for as long as it fails.
func (s *Server) looked(r Ref, failure error) error {
	s.placing.Lock()
	defer s.placing.Unlock()
	if failure == nil {
		delete(s.failing, r)
		return nil
	}
	if s.failing[r]++; !passing(failure) {
		s.failing[r] = patience
	}
	if _, waits := s.rooms[r]; !waits || s.failing[r] < patience {
		return failure
	}
	return errors.Join(failure, s.makeRoom(r))
}

// passing is an error that another try may do away with.
func passing(err error) bool {
	_, ok := errors.AsType[*forge.RetryError](err)
	return ok
}

// taken are the pull requests that have a preview, also one that is going.
func (s *Server) taken() (map[Ref]bool, error) {
	refs, err := s.store.Refs()
	if err != nil {
		return nil, err
	}
	taken, view := map[Ref]bool{}, s.watcher.View()
	for _, r := range refs {
		e, err := s.store.Read(r)
		if err != nil {
			return nil, err
		}
		if e.State == SpecPresent || view.Previews[s.store.File(r)] != nil {
			taken[r] = true
		}
	}
	return taken, nil
}

// limited reports whether a pull request of a repository may have to wait.
func (s *Server) limited(repository *v1alpha1.RepositorySpec) bool {
	return s.options.Max > 0 || repository.PullRequests.Max > 0
}

// queue yields those that wait, the oldest first, each with why it has to wait on;
// empty: there is room for it, which it has taken for those that follow. One that
// has a preview waits for none: it is only to be looked at.
func (s *Server) queue(taken map[Ref]bool) iter.Seq2[Ref, string] {
	all, of, repositories := len(taken), map[string]int{}, s.watcher.View().Repositories
	for r := range taken {
		of[r.Repository]++
	}
	return func(yield func(Ref, string) bool) {
		for _, r := range s.rooms.sorted() {
			policy, why := repositories[r.Repository], ""
			switch {
			case policy == nil || taken[r]:
				continue
			case policy.PullRequests.Max > 0 && of[r.Repository] >= policy.PullRequests.Max:
				why = fmt.Sprintf("there are %d previews of this repository at a time; it waits until one has gone", policy.PullRequests.Max)
			case s.options.Max > 0 && all >= s.options.Max:
				why = fmt.Sprintf("there are %d previews on this host at a time; it waits until one has gone", s.options.Max)
			default:
				of[r.Repository]++
				all++
			}
			if !yield(r, why) {
				return
			}
		}
	}
}

// room says whether a pull request that has none may have a preview now. The
// caller holds placing.
func (s *Server) room(r Ref, w waiter, repository *v1alpha1.RepositorySpec) (State, string, error) {
	if !s.limited(repository) {
		return StateShown, "", nil
	}
	taken, err := s.taken()
	if err != nil {
		return "", "", err
	}
	delete(taken, r)
	s.rooms[r] = w
	for other, why := range s.queue(taken) {
		if other == r && why != "" {
			return StateWaiting, why, nil
		}
	}
	return StateShown, "", nil
}

// makeRoom takes a pull request out of those that wait, and fills the room it leaves.
func (s *Server) makeRoom(r Ref) error {
	delete(s.rooms, r)
	return s.fillRoom()
}

// fillRoom has those that wait looked at that there is room for now.
func (s *Server) fillRoom() error {
	if len(s.rooms) == 0 {
		return nil
	}
	taken, err := s.taken()
	if err != nil {
		return err
	}
	for next, why := range s.queue(taken) {
		if why == "" {
			s.looks.add(s.rooms[next].key)
		}
	}
	return nil
}
