package ingress

import "slices"

// quarantine finds the largest set that try accepts, given that what makes try
// refuse is in single items. It begins with all; only when that is refused it
// leaves out the doubtful ones, and when the trusted alone are refused, it
// doubts these too. The last accepted try is the returned set.
//
// try returns a *refusal for what it does not accept; any other error ends the
// search. refused has an error for each item that was left out. When not even
// the empty set is accepted, its refusal is the returned error.
func quarantine[T any](trusted, doubtful []T, try func([]T) error) (good []T, refused []refusedItem[T], err error) {
	all := slices.Concat(trusted, doubtful)
	err = try(all)
	if err == nil || !isRefusal(err) {
		return all, nil, err
	}
	if len(trusted) > 0 {
		if errTrusted := try(trusted); errTrusted != nil {
			if !isRefusal(errTrusted) {
				return nil, nil, errTrusted
			}
			trusted, doubtful = nil, all
		}
	}
	if len(trusted) == 0 {
		if err := try(nil); err != nil {
			return nil, nil, err
		}
	}
	s := search[T]{try: try, good: trusted}
	err = s.halves(doubtful, err)
	return s.good, s.refused, err
}

type refusedItem[T any] struct {
	item T
	err  error
}

type search[T any] struct {
	try     func([]T) error
	good    []T
	refused []refusedItem[T]
}

// halves adds what is accepted of items, which together were refused with err.
func (s *search[T]) halves(items []T, err error) error {
	switch len(items) {
	case 0:
		return nil
	case 1:
		s.refused = append(s.refused, refusedItem[T]{items[0], err})
		return nil
	}
	for _, half := range [][]T{items[:len(items)/2], items[len(items)/2:]} {
		all := slices.Concat(s.good, half)
		err := s.try(all)
		if err == nil {
			s.good = all
			continue
		}
		if !isRefusal(err) {
			return err
		}
		if err := s.halves(half, err); err != nil {
			return err
		}
	}
	return nil
}
