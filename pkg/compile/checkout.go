package compile

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

// repository is what an object wants fetched.
type repository struct {
	url, ref, secret string
	// refresh after so long, zero: never; a fetch before asked is looked up again.
	refresh time.Duration
	asked   time.Time
	// files of the commit that are to be read.
	files []string
}

// checkout wants a repository's reference as it is now, and returns what it is.
// ok is false, and a note says why, until that is known; a commit that was known
// before stays over failures.
func (c *compiler) checkout(u *unitOf, r repository) (result resource.Fetched, ok bool) {
	have, j := newJob[resource.Checkout](c, resource.CheckoutName(r.url, r.ref, r.secret))
	digest, found := c.Secrets[r.secret]
	changed := have.Fetch.Failures > 0 && have.Digest != digest // somebody mended the secret
	j.lost, j.parallel, j.refresh = have.Lost, c.Host.Git.ParallelFetches, r.refresh
	files := slices.Compact(slices.Sorted(slices.Values(slices.Concat(have.Files, r.files))))
	asked := have.Fetch.StartedAt.Before(r.asked) && !r.asked.After(c.Now)
	j.stale = changed || asked || !slices.Equal(files, have.Files)
	j.value = func(attempt int, lost bool) resource.Worked {
		return resource.Checkout{
			URL: r.url, Ref: r.ref, Secret: r.secret, Digest: digest, Files: files, Attempt: attempt, Lost: lost,
			Deadline: resource.Duration(c.Host.Git.FetchTimeout.Duration), MaxSize: c.Host.Git.MaxSize.Bytes,
		}
	}
	may := !u.Spec.Disabled() && !u.Spec.Paused && (r.secret == "" || c.SecretsErr == nil && found)
	switch {
	case may:
		c.wantJob(j)
	case j.present:
		c.hold(j.id)
	}
	u.Fetches = true
	f := have.Fetch
	unread := slices.ContainsFunc(r.files, func(path string) bool {
		_, read := f.Result.Files[path]
		return !read
	})
	if f.Result.Commit != "" && !have.Lost && !unread {
		c.noteStale(u, j, v1alpha1.ConditionFetched, fmt.Sprintf("commit %.12s stays", f.Result.Commit))
		return f.Result, true
	}
	switch {
	case r.secret != "" && c.SecretsErr != nil:
		u.noteSecretsUnreadable(c.SecretsErr)
	case r.secret != "" && !found:
		u.noteSecretMissing(r.secret)
	default:
		c.noteJob(u, j, Note{
			Type: v1alpha1.ConditionFetched, Status: v1alpha1.ConditionFalse, Reason: "Fetching",
			Message: fmt.Sprintf("%s: %s", r.url, cmp.Or(f.Progress, "the fetch begins")),
		}, Note{Reason: "FetchQueued", Message: fmt.Sprintf("waits until fewer than %d repositories are fetched (Host.spec.git.parallelFetches)", c.Host.Git.ParallelFetches)})
	}
	return resource.Fetched{}, false
}

// resolveVolumes wants the repositories of volumes that are yet to be made, and
// remembers what they are. Until that is known, what is there of the object runs on.
func (c *compiler) resolveVolumes(u *unitOf) {
	for _, v := range u.Spec.Volumes {
		r := v.Repository
		if r == nil {
			continue
		}
		made, known := c.made(u, v)
		switch {
		case made:
			continue
		case !known: // it may be there
			c.hold(resource.ID{Kind: resource.KindCheckout, Name: resource.CheckoutName(r.URL, r.Ref, r.Secret)})
			u.waiting = true
			continue
		}
		result, ok := c.checkout(u, repository{url: r.URL, ref: r.Ref, secret: r.Secret})
		if !ok {
			u.waiting = true
			continue
		}
		if u.clones == nil {
			u.clones = map[string]resource.Clone{}
		}
		u.clones[v.Name] = resource.Clone{URL: r.URL, Dir: result.Dir, Commit: result.Commit, Branch: result.Branch, User: cmp.Or(r.User, userOf(u.Spec))}
	}
}

// userOf is whose a machine's data is: who logs in, or else who runs the command.
func userOf(s *v1alpha1.ContainerSpec) string {
	if s.Login != nil {
		return s.Login.User
	}
	return s.User
}

// made reports whether a volume is there, whole.
func (c *compiler) made(u *unitOf, v v1alpha1.Volume) (made, known bool) {
	have, present, known := observed[resource.Volume](c, resource.VolumeName(u.Record.Kind, u.Record.Name, v.Name))
	return present && have.Made(), known
}

// awaits reports whether a volume cannot be made yet: its repository is not fetched.
func (c *compiler) awaits(u *unitOf, v v1alpha1.Volume) bool {
	made, known := c.made(u, v)
	return v.Repository != nil && known && !made && u.clones[v.Name] == resource.Clone{}
}
