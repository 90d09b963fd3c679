package compile

import (
	"slices"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/preview"
	"tekton.host/pkg/resource"
)

// built turns a commit's preview-config.nix into what it was built to; nil: that
// is not known yet, or its problem is noted.
func (c *compiler) built(u *unitOf, r *preview.Revision) *preview.Revision {
	n := c.Host.Previews.Nix
	config := u.Spec.Preview.Spec.Config
	switch {
	case r.Config == nil:
		return r // which is told as with the other form
	case n == nil:
		u.note(v1alpha1.ConditionConfigured, v1alpha1.ConditionFalse, "ConfigInvalid", "%s is code, which this host does not evaluate (Host spec.previews.nix); what runs stays", config)
		return nil
	case strings.TrimSpace(*r.Config) == "":
		u.note(v1alpha1.ConditionConfigured, v1alpha1.ConditionFalse, "ConfigInvalid", "commit %.12s: %s: the file is empty", r.Commit, config)
		return nil
	}
	have, j := c.build(u, resource.Closure{Flake: n.Flake, Fetch: n.Fetch, Config: *r.Config}, refreshOf(n.Refresh))
	if result := have.Build.Result; result.StorePath != "" {
		c.noteBuilt(u, j)
		return &preview.Revision{Commit: r.Commit, Dir: r.Dir, Config: &result.Meta, StorePath: result.StorePath}
	}
	// What is known of the build may be lost.
	for _, i := range slices.Backward(c.Claims.Instances[u.Record.UID]) {
		if i.Revision != nil && i.Revision.StorePath != "" && i.Revision.Commit == r.Commit {
			return i.Revision
		}
	}
	c.noteBuilding(u, j)
	return nil
}
