package reconcile

import (
	"cmp"
	"path/filepath"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
)

// renamed gives what came from a directory, with its data, to the source that
// has the directory now, where the name it came under is no longer configured:
// only the source's name was changed. Another directory of the same documents is
// another source, and so are branches of a repository, which have no directory.
// Data that an object left behind says no directory: it goes where all that there
// is of its source goes.
func renamed(claims compile.Claims, sources []v1alpha1.SourceConfig) {
	configured, byPath := map[string]bool{}, map[string]string{}
	for _, s := range sources {
		configured[s.Name] = true
		if s.Git == nil {
			byPath[filepath.Clean(s.Path)] = s.Name
		}
	}
	type formerly struct{ kind, name, source string }
	now := map[formerly]string{} // a source alone is for all that came from it; "": nobody can tell
	rename := func(r *compile.ObjectRecord) bool {
		if configured[r.Source] {
			return false
		}
		name, all := byPath[filepath.Dir(r.File)], formerly{source: r.Source}
		now[formerly{r.Kind, r.Name, r.Source}] = name
		if other, known := now[all]; known && other != name {
			now[all] = ""
		} else {
			now[all] = name
		}
		if name == "" {
			return false
		}
		r.Source = name
		return true
	}
	for uid, r := range claims.ByUID {
		if rename(&r) {
			claims.ByUID[uid] = r
		}
	}
	for uid, t := range claims.Tombstones {
		if rename(&t.ObjectRecord) {
			claims.Tombstones[uid] = t
		}
	}
	if len(now) == 0 {
		return
	}
	for key, d := range claims.Data {
		if name := cmp.Or(now[formerly{d.Kind, d.Name, d.Source}], now[formerly{source: d.Source}]); name != "" {
			d.Source = name
			claims.Data[key] = d
		}
	}
}
