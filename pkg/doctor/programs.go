package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// Names of programs in Facts.
const (
	Nspawn   = "systemd-nspawn"
	Nft      = "nft"
	Caddy    = "caddy"
	Postgres = "postgres"
	Git      = "git"
	Nix      = "nix"
	Linux    = "kernel"
)

// need says what a program is for, and how bad it is not to have it.
type need struct {
	missing Level
	what    string
	install string
	// oldest version that works, oldest that the tests run with.
	oldest, tested string
}

func (j *judge) need(name string) need {
	h := j.f.Host
	optional := func(wanted bool, n need) need {
		if !wanted {
			n.missing = OK
		}
		return n
	}
	switch name {
	case Nspawn:
		return need{Error, "runs machines", "systemd-container", "", "252"}
	case Nft:
		return need{Error, "isolates machines", "nftables", "", "1.0.6"}
	case Caddy:
		return optional(h.Ingress.Mode == "managed", need{Warning, "serves routes", "caddy", "", "2.6.2"})
	case Postgres:
		return optional(h.Postgres.Mode == "managed", need{Warning, "keeps databases", "postgresql", "15", "15"})
	case Git:
		return optional(slices.ContainsFunc(h.Sources, isGit), need{Error, "fetches sources and repositories", "git", "", "2.39"})
	}
	return need{OK, "builds flakes", "nix-bin", "", "2.8"}
}

// flaw is a known one of some versions.
type flaw struct {
	program string
	name    string // a CVE, as changelogs name it; "" for what is none
	since   string
	mended  []string
	says    string
	source  string
	// level where it matters here; OK mentions it only.
	level func(Facts) Level
}

func always(l Level) func(Facts) Level { return func(Facts) Level { return l } }

// flaws are those that reach something that tekton does. Sources are named as
// they are found: a CVE at the NVD, a release's announcement, an issue.
var flaws = []flaw{
	{Nspawn, "CVE-2026-40226", "233", []string{"257.12", "258.6", "259.4", "260"},
		"a planted NAME.nspawn lets a container out to the host; machines of tekton are started with --settings=no, others on this host perhaps not",
		"CVE-2026-40226", func(f Facts) Level {
			if f.NixOS {
				return Warning // container@.service is not ours
			}
			return OK
		}},
	{Caddy, "", "", []string{"2.7"},
		"each change of a route closes all websockets", "https://github.com/caddyserver/caddy/pull/5567", always(Warning)},
	{Caddy, "CVE-2026-30851", "2.10.0", []string{"2.11.2"},
		"forward_auth with copy_headers lets clients forge identity headers; tekton's sites use none, the host's own Caddyfile may",
		"CVE-2026-30851, GHSA-7r4p-vjf4-gxv4", func(f Facts) Level {
			if f.Host.Ingress.Mode == "system" {
				return Warning
			}
			return OK
		}},
	{Postgres, "CVE-2026-6473", "", []string{"14.23", "15.18", "16.14", "17.10", "18.4"},
		"a size that wraps around lets whoever gives input to a query write beyond memory, as one of eleven flaws",
		"PostgreSQL's release of 2026-05-14, CVE-2026-6473", always(Warning)},
	{Nix, "CVE-2026-39860", "2.21", []string{"2.28.6", "2.29.3", "2.30.4", "2.31.4", "2.32.7", "2.33.4", "2.34.5"},
		"who may use the Nix daemon becomes root through a fixed-output derivation", "CVE-2026-39860", always(Error)},
	{Git, "CVE-2024-32021", "", []string{"2.39.4", "2.40.2", "2.41.1", "2.42.2", "2.43.4", "2.44.1", "2.45.1"},
		"cloning a hostile repository of the same file system can link files of the user into it", "CVE-2024-32021, GHSA-mvxm-9j2h-qjx7", always(Warning)},
	{Linux, "CVE-2024-1086", "3.15", []string{"5.15.149", "6.1.76", "6.6.15", "6.7.3", "6.8"},
		"whoever has a user namespace, as the root of a machine has, becomes root of the host through nf_tables", "CVE-2024-1086", always(Error)},
}

// Flaws names those that a distribution's changelog may say to have mended.
func Flaws() (names []string) {
	for _, f := range flaws {
		if f.name != "" {
			names = append(names, f.name)
		}
	}
	return names
}

func (j *judge) programs() {
	for _, p := range j.f.Programs {
		n := j.need(p.Name)
		switch {
		case p.Path == "" && n.missing == OK:
			j.ok(p.Name, "not installed; it %s", n.what)
		case p.Path == "":
			j.add(Finding{Check: p.Name, Level: n.missing, Says: "not installed; it " + n.what, Where: "PATH", Fix: j.install(n.install)})
		case p.Err != "":
			j.add(Finding{Check: p.Name, Level: Unknown, Says: p.Err, Where: p.Path})
		default:
			j.version(p, n)
		}
	}
	if len(j.f.Ours) > 0 {
		j.add(Finding{Check: "tekton", Level: Error, Says: "missing beside tektond: " + strings.Join(j.f.Ours, ", "), Fix: "install all programs of one build together: make build install"})
	}
}

func (j *judge) install(pkg string) string {
	if j.f.NixOS {
		return "services.tekton.enable brings it, or add it to the daemon's path"
	}
	return "install it (Debian: apt install " + pkg + ")"
}

// version judges a program that is there.
func (j *judge) version(p Program, n need) {
	v := parseVersion(p.Version)
	switch {
	case len(v) == 0:
		j.add(Finding{Check: p.Name, Level: Unknown, Says: fmt.Sprintf("its version %q is not one", p.Version), Where: p.Path})
	case n.oldest != "" && v.before(parseVersion(n.oldest)):
		j.add(Finding{Check: p.Name, Level: Error, Says: fmt.Sprintf("%s is too old; %s or newer is needed", p.Version, n.oldest), Where: p.Path, Fix: j.install(n.install)})
	case v.before(parseVersion(n.tested)):
		j.add(Finding{Check: p.Name, Level: Warning, Says: fmt.Sprintf("%s is older than %s, the oldest that tekton is tested with", p.Version, n.tested), Where: p.Path, Fix: j.install(n.install)})
	default:
		j.flaws(p.Name, p.Version, p.Path, p.Mended)
	}
}

// flaws adds a finding for each known flaw of a version, one finding when there is none.
func (j *judge) flaws(program, shown, path string, mended []string) {
	v, notes := parseVersion(shown), []string{shown}
	bad := false
	for _, f := range flaws {
		if f.program != program || !v.affected(f.since, f.mended...) || f.name != "" && slices.Contains(mended, f.name) {
			continue
		}
		level := f.level(j.f)
		if level == OK {
			notes = append(notes, f.source+" is not mended: "+f.says)
			continue
		}
		bad = true
		fix := "upgrade to " + strings.Join(f.mended, ", ") + " or newer"
		if f.name != "" {
			fix += ", or to a package whose changelog names " + f.name
		}
		j.add(Finding{
			Check: program, Level: level, Says: fmt.Sprintf("%s: %s", shown, f.says),
			Where: strings.TrimPrefix(path+"; "+f.source, "; "), Fix: fix,
		})
	}
	if !bad {
		j.ok(program, "%s", strings.Join(notes, "; "))
	}
}
