package reconcile

import (
	"fmt"

	"tekton.host/pkg/absence"
	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/spec"
)

// repositories are the Repository objects by name: what Previews that name one
// are given.
type repositories map[string]compile.Object

func repositoriesOf(objects []compile.Object) repositories {
	out := repositories{}
	for _, o := range objects {
		if _, is := o.Spec.(*v1alpha1.Repository); is && o.Verdict != compile.Gone {
			out[o.Record.Name] = o
		}
	}
	return out
}

// named returns the preview that an object is, if it takes what it is given from
// a Repository.
func named(o v1alpha1.Object) (*v1alpha1.Preview, bool) {
	p, is := o.(*v1alpha1.Preview)
	return p, is && p.Spec.Repository.Name != ""
}

// refusing says why an object may not run because its Repository may not.
func (rs repositories) refusing(o v1alpha1.Object) string {
	p, is := named(o)
	if !is || rs[p.Spec.Repository.Name].Verdict != compile.Refused {
		return ""
	}
	return fmt.Sprintf("Repository %s: %s", p.Spec.Repository.Name, rs[p.Spec.Repository.Name].Why)
}

// wish is the document that has its name, with what a Repository gives it.
type wish struct {
	absence.Winner
	// document is the digest of what was written, where the object has more.
	document string
	// reason and why of one that cannot be completed now.
	reason, why string
}

// given is what completing a preview came to.
type given struct {
	object      *v1alpha1.Preview
	digest      string
	reason, why string
}

// givenKey is what it came from: the digests of preview and Repository.
type givenKey struct{ preview, repository string }

func wishesOf(winners []absence.Winner) []wish {
	out := make([]wish, len(winners))
	for i, n := range winners {
		out[i].Winner = n
	}
	return out
}

// complete gives the documents of previews what their Repositories say.
func (c *Core) complete(wishes []wish, rs repositories) {
	for i := range wishes {
		n := &wishes[i]
		p, is := named(n.Object.Object)
		if !is {
			continue
		}
		g := c.give(p, n.Digest, rs)
		if n.reason, n.why = g.reason, g.why; g.object != nil {
			n.document, n.Object.Object, n.Digest = n.Digest, g.object, g.digest
		}
	}
}

// give completes a preview. A Repository that is not there may be written later,
// or come back: it is nothing that is known of the preview.
func (c *Core) give(p *v1alpha1.Preview, digest string, rs repositories) given {
	name := p.Spec.Repository.Name
	from, found := rs[name]
	switch {
	case !found:
		return given{reason: "RepositoryMissing", why: fmt.Sprintf(
			"there is no Repository %s, so what the preview may have is not known; what runs of it stays; next step: apply one (tekton new repository), or delete the preview", name)}
	case from.Verdict == compile.Refused:
		return given{reason: spec.ReasonSourcePolicy, why: rs.refusing(p)}
	}
	key := givenKey{digest, from.Record.Digest}
	g, known := c.given[key]
	if !known {
		object, err := from.Spec.(*v1alpha1.Repository).Given(p, &c.Host)
		if err != nil {
			g = given{reason: spec.ReasonInvalidValue, why: err.Error()}
		} else {
			g = given{object: object, digest: spec.Digest(object)}
		}
	}
	c.nextGiven[key] = g
	return g
}

// follow brings the last good spec of a preview up to what its Repository says
// now: what that takes back is not kept by a document that cannot be read.
func (c *Core) follow(r compile.ObjectRecord, last v1alpha1.Object, rs repositories) (compile.ObjectRecord, v1alpha1.Object) {
	p, is := named(last)
	if !is {
		return r, last
	}
	g := c.give(p, r.Digest, rs)
	if g.object == nil || g.digest == r.Digest {
		return r, last
	}
	r.Generation++
	r.Digest, r.Object = g.digest, marshal(g.object)
	c.specs[r.Digest] = g.object
	return r, g.object
}

// incomplete are the problems of documents that were not completed.
func incomplete(wishes []wish) []Problem {
	var out []Problem
	for _, n := range wishes {
		if n.why != "" {
			out = append(out, Problem{n.Source, n.Problem("spec.repository.name", n.reason, n.why)})
		}
	}
	return out
}

// previewsByRepository counts the previews that take what they are given from a
// Repository, by its name.
func previewsByRepository(objects []compile.Compiled) map[string]int {
	out := map[string]int{}
	for _, o := range objects {
		if p, is := o.Declared.(*v1alpha1.PreviewSpec); is && p.Repository.Name != "" {
			out[p.Repository.Name]++
		}
	}
	return out
}
