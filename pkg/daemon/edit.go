package daemon

import (
	"fmt"
	"slices"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/spec"
)

// edit returns a file with the document of ref replaced, added, or with an
// empty text removed; nil: it has no document. It refuses what would change any
// other object of the file: they belong to somebody too.
func edit(file string, data []byte, ref v1alpha1.Ref, text string, opt spec.Options) ([]byte, error) {
	docs := spec.Documents(data)
	before, problems := spec.Decode(file, data, opt)
	at, err := place(docs, before, problems, ref)
	if err != nil {
		return nil, err
	}
	switch {
	case text != "" && at >= 0:
		docs[at].Text = text
	case text != "":
		docs = append(docs, spec.Document{Text: text})
	case at >= 0:
		docs = slices.Delete(docs, at, at+1)
	default:
		return data, nil
	}
	edited := spec.Join(docs)
	after, _ := spec.Decode(file, edited, opt)
	if !changesOnly(before, after, ref, text != "") {
		return nil, conflict(fmt.Sprintf("%s cannot be written for %s without a change of something else in it", file, ref), "edit it by hand: "+file)
	}
	if len(docs) == 0 {
		return nil, nil
	}
	return edited, nil
}

// changesOnly reports whether a change of ref left all other objects what they
// were, and ref is there if it is to be. Where it left, one may come that only
// waited for the name.
func changesOnly(before, after []spec.Object, ref v1alpha1.Ref, there bool) bool {
	have := make(map[v1alpha1.Ref]string, len(after))
	for _, o := range after {
		have[o.Ref()] = o.Digest
	}
	_, is := have[ref]
	delete(have, ref)
	others := 0
	for _, o := range before {
		if o.Ref() == ref {
			continue
		}
		if have[o.Ref()] != o.Digest {
			return false
		}
		others++
	}
	return is == there && (!there || len(have) == others)
}

// place finds the document of ref, also one that has problems; -1: there is
// none. It refuses to guess which one it is, and what else is in it.
func place(docs []spec.Document, objects []spec.Object, problems []spec.Problem, ref v1alpha1.Ref) (int, error) {
	at := -1
	for _, o := range objects {
		if o.Ref() == ref {
			at = documentAt(docs, o.Position.Line)
		}
	}
	found := at >= 0
	var unclear *spec.Problem
	for _, p := range problems {
		i := documentAt(docs, p.Line)
		named := p.Name == ref.Name && p.Kind == ref.Kind
		switch {
		case i < 0 || found && i != at: // the file is empty, or another document has it
		case found || p.Name == "" || p.Name == ref.Name && !slices.Contains(v1alpha1.Kinds(), p.Kind):
			unclear = &p
		case named && at >= 0 && at != i:
			return -1, conflict(fmt.Sprintf("%s has two documents of %s, both with problems", p.File, ref), "remove one of them by hand: "+p.Position.String())
		case named:
			at = i
		}
	}
	if unclear != nil && (found || at < 0) {
		return -1, conflict(fmt.Sprintf("what of the document at %s is %s cannot be told: %s", unclear.Position, ref, unclear.Message), "correct it by hand: "+unclear.File)
	}
	return at, nil
}

// documentAt is the index of the document that has a line, -1: none has.
func documentAt(docs []spec.Document, line int) int {
	for i, doc := range slices.Backward(docs) {
		if doc.Line <= line {
			return i
		}
	}
	return -1
}
