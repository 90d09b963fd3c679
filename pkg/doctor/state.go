package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
)

func (j *judge) files() {
	for _, d := range j.f.Dirs {
		f := Finding{Check: d.Field, Where: d.Path}
		switch {
		case d.Err != "":
			j.unseen(d.Field, d.Err)
			continue
		case !d.Exists && !j.f.Installed:
			f.Says, f.Where = d.Path+" is not there yet; the daemon makes it at its first start", ""
		case !d.Exists && d.Precious:
			// An empty one would say for certain that what was in it is not wanted any more.
			f.Level, f.Says, f.Fix = Error, "is gone", "mount or restore it; tekton does not make an empty one in its place"
		case !d.Exists:
			f.Level, f.Says, f.Fix = Error, "is gone", "tekton doctor --fix makes it"
			f.Changes = []Change{{Kind: MakeDir, Path: d.Path, Mode: d.Want}}
		case d.UID != 0:
			f.Level, f.Says, f.Fix = Error, fmt.Sprintf("belongs to user %d, who can replace what tekton writes there", d.UID), "chown root "+d.Path
		case d.Mode&^d.Most != 0:
			f.Level, f.Says = Error, fmt.Sprintf("has mode %s, which lets others in further than %s", d.Mode, d.Most)
			f.Fix, f.Changes = "tekton doctor --fix, or chmod", []Change{{Kind: SetMode, Path: d.Path, Mode: d.Mode & d.Most}}
		default:
			f.Says, f.Where = fmt.Sprintf("%s, mode %s", d.Path, d.Mode), ""
		}
		j.add(f)
	}
	for _, name := range slices.Sorted(maps.Keys(j.f.Refused)) {
		f := Finding{Check: "secret " + name, Level: Error, Says: j.f.Refused[name], Where: j.f.Host.SecretsDir, Fix: "tekton secret set " + name}
		if strings.HasPrefix(f.Says, "is open to others") {
			f.Changes = []Change{{Kind: SetMode, Path: j.f.Host.SecretsDir + "/" + name, Mode: 0o600}}
			f.Fix = "tekton doctor --fix, or chmod 600; whoever could read it may know it by now"
		}
		j.add(f)
	}
}

func (j *judge) daemon() {
	d := j.f.Daemon
	switch {
	case d.Err != "" && j.f.Installed:
		j.add(Finding{Check: "answers", Level: Error, Says: d.Err, Where: d.Socket, Fix: "systemctl status tektond; journalctl -u tektond"})
		return
	case d.Err != "":
		j.add(Finding{Check: "answers", Level: Warning, Says: d.Err + "; none has run here yet", Where: d.Socket, Fix: "systemctl enable --now tektond"})
		return
	case d.Expected != "" && d.Installation != d.Expected:
		j.add(Finding{Check: "answers", Level: Warning, Says: fmt.Sprintf("the daemon on this socket is that of installation %s, %s has %s", d.Installation, j.f.Host.StateDir, d.Expected), Where: d.Socket, Fix: "name the daemon's own Host file with --config"})
	case d.Version != d.Client:
		j.add(Finding{Check: "answers", Level: Warning, Says: fmt.Sprintf("the daemon is %s, this program %s", d.Version, d.Client), Where: d.Socket, Fix: "systemctl restart tektond; no machine notices"})
	default:
		j.ok("answers", "%s on %s", d.Version, d.Socket)
	}
	if len(d.NotReady) > 0 {
		j.add(Finding{Check: "objects", Level: Warning, Says: fmt.Sprintf("%d Ready, not Ready: %s", d.Ready, strings.Join(d.NotReady, ", ")), Fix: "tekton why NAME"})
		return
	}
	j.ok("objects", "%d, all Ready or off by their specs", d.Ready)
}

func (j *judge) sources() {
	for _, s := range j.f.Sources {
		f := Finding{Check: s.Name, Where: s.Where}
		switch {
		case s.Err != "":
			f.Level, f.Says, f.Fix = Error, s.Err, "tekton source list says what the daemon knows of it"
		case len(s.Problems) > 0:
			f.Level, f.Says, f.Fix = Warning, strings.Join(s.Problems, "; "), "correct them; last good specs stay meanwhile"
		case s.Held > 0:
			f.Level, f.Says, f.Fix = Warning, fmt.Sprintf("holds %d deletions", s.Held), "bring what is missing back, or tekton release-deletes "+s.Name
		default:
			f.Says = fmt.Sprintf("%s: %d objects", s.Where, s.Objects)
			f.Where = ""
		}
		j.add(f)
	}
}

func isGit(s v1alpha1.SourceConfig) bool { return s.Git != nil }
