package compile

import (
	"tekton.host/pkg/preview"
)

// fetched wants the commit that a preview shows, and returns it; nil: it is not
// known yet.
func (c *compiler) fetched(u *unitOf) *preview.Revision {
	p := u.Spec.Preview.Spec
	r := repository{url: p.Repository.URL, ref: p.Ref(), secret: p.Repository.Secret, files: []string{p.Config}}
	if p.Commit == "" {
		r.refresh = p.Refresh.Duration
	}
	result, ok := c.checkout(u, r)
	if !ok {
		return nil
	}
	return &preview.Revision{Commit: result.Commit, Dir: result.Dir, Config: result.Files[p.Config]}
}
