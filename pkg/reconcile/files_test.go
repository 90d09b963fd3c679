package reconcile

import (
	"maps"
	"slices"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/source"
	"tekton.host/pkg/spec"
)

// specFile is a file of specs: whole, half or just being written.
type specFile struct {
	docs []spec.Object
	tear tear
}

type tear string

const (
	whole   tear = ""
	writing tear = "is being written"
	half    tear = "ends in the middle of its last document"
	garbage tear = "is no YAML at all"
)

func (s *sim) put(file string, cs ...v1alpha1.Container) {
	f := specFile{}
	for i, c := range cs {
		f.docs = append(f.docs, object(file, i, c))
	}
	s.files[file] = f
}

func (s *sim) delete(file string) { delete(s.files, file) }

func (s *sim) rename(from, to string) {
	f := s.files[from]
	delete(s.files, from)
	docs := slices.Clone(f.docs)
	for i := range docs {
		docs[i].Position.File = to
	}
	s.files[to] = specFile{docs: docs}
}

// source is the name of the one that has the files.
func (s *sim) source() string { return s.conf.Host.Sources[0].Name }

func (s *sim) snapshot() source.Snapshot {
	snap := source.Snapshot{Source: s.source(), Complete: true, Marked: !s.unmarked, ReadAt: s.world.Now}
	if s.sourceErr != nil {
		snap.Complete, snap.Err = false, s.sourceErr
		return snap
	}
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		f := s.files[name]
		snap.Files = append(snap.Files, name)
		docs := f.docs
		switch f.tear {
		case writing:
			snap.Unsettled, docs = append(snap.Unsettled, name), nil
			snap.RetryAfter = 200 * time.Millisecond
		case half, garbage:
			if docs = docs[:max(0, len(docs)-1)]; f.tear == garbage {
				docs = nil
			}
			snap.Problems = append(snap.Problems, spec.Problem{
				Position: spec.Position{File: name, Line: 1 + 10*len(docs)}, Reason: "ParseError", Message: name + " " + string(f.tear),
			})
		}
		for _, o := range docs {
			refused := spec.Admit(o, s.core.allow(s.source()))
			snap.Problems = append(snap.Problems, refused...)
			if len(refused) == 0 {
				snap.Objects = append(snap.Objects, o)
			}
		}
	}
	return snap
}
