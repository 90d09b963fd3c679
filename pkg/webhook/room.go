package webhook

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"tekton.host/pkg/forge"
)

// rooms remembers which pull requests of a repository want a preview, or may
// want one, and wait for room: the oldest goes first. What a restart forgets the
// first sweep finds again.
type rooms map[string]map[int]Key

func (w rooms) wait(r Ref, k Key) {
	if w[r.Repository] == nil {
		w[r.Repository] = map[int]Key{}
	}
	w[r.Repository][r.Number] = k
}

func (w rooms) leave(r Ref) { delete(w[r.Repository], r.Number) }

// before are those that wait and come first.
func (w rooms) before(r Ref) int {
	n := 0
	for number := range w[r.Repository] {
		if number < r.Number {
			n++
		}
	}
	return n
}

// first are the keys of the oldest n that wait.
func (w rooms) first(repository string, n int) []Key {
	waiting := w[repository]
	numbers := slices.Sorted(maps.Keys(waiting))
	var keys []Key
	for _, number := range numbers[:min(max(n, 0), len(numbers))] {
		keys = append(keys, waiting[number])
	}
	return keys
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
	if _, waits := s.rooms[r.Repository][r.Number]; !waits || s.failing[r] < patience {
		return failure
	}
	return errors.Join(failure, s.makeRoom(r))
}

// passing is an error that another try may do away with.
func passing(err error) bool {
	_, ok := errors.AsType[*forge.RetryError](err)
	return ok
}

// taken counts the previews of a repository, but that of one.
func (s *Server) taken(repository string, but Ref) (int, error) {
	refs, err := s.store.Refs()
	if err != nil {
		return 0, err
	}
	n, view := 0, s.watcher.View()
	for _, other := range refs {
		if other.Repository != repository || other == but {
			continue
		}
		e, err := s.store.Read(other)
		if err != nil {
			return 0, err
		}
		if e.State == SpecPresent || view.Previews[s.store.File(other)] != nil {
			n++
		}
	}
	return n, nil
}

// room says whether a pull request that has none may have a preview now. The
// caller holds placing.
func (s *Server) room(r Ref, k Key, most int) (State, string, error) {
	if most == 0 {
		return StateShown, "", nil
	}
	n, err := s.taken(r.Repository, r)
	if err != nil {
		return "", "", err
	}
	if n+s.rooms.before(r) < most {
		return StateShown, "", nil
	}
	s.rooms.wait(r, k)
	return StateWaiting, fmt.Sprintf("there are %d previews of this repository at a time; it waits until one has gone", most), nil
}

// makeRoom takes a pull request out of those that wait, and has the next ones
// looked at that there is room for now.
func (s *Server) makeRoom(r Ref) error {
	s.rooms.leave(r)
	repository := s.watcher.View().Repositories[r.Repository]
	if repository == nil || len(s.rooms[r.Repository]) == 0 {
		return nil
	}
	free := len(s.rooms[r.Repository])
	if most := repository.PullRequests.Max; most > 0 {
		n, err := s.taken(r.Repository, Ref{})
		if err != nil {
			return err
		}
		free = most - n
	}
	for _, k := range s.rooms.first(r.Repository, free) {
		s.looks.add(k)
	}
	return nil
}
