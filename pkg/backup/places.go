package backup

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/host"
)

// state are the parts of the state directory that cannot be made again, in the
// order in which they are read. What says what there is comes before what there
// is: an object that comes meanwhile is not known, rather than known without its
// data.
func state(l host.Layout) []place {
	return []place{
		{"ledger.json", l.Ledger()},
		{"installation", l.Installation()},
		{"digest.key", l.Key()},
		{"missing.json", l.Missing()},
		{"notifications", l.Notifications()},
		{"history", l.History()},
		{"events.jsonl", l.Events()},
		{"passwords", l.Passwords()},
		{certificates, l.Certificates()},
		{"restored", l.Restored()},
		{"trash", l.Trash()},
		{"volumes", l.Volumes()},
	}
}

// eventsPart grows while it is read, as it does when a daemon is killed.
const eventsPart = GroupState + "/events.jsonl"

// certificates belong to whoever Caddy runs as, who has another number on another host.
const certificates = "certificates"

// place is where a part lies on this host.
type place struct{ part, path string }

// Places says where the parts of archives lie on a host.
type Places struct {
	Host v1alpha1.HostSpec // required: defaulted and valid
	// Also are files and directories beside those that the Host names.
	Also []string
}

// Layout of the host.
func (p Places) Layout() host.Layout {
	return host.Layout{State: p.Host.StateDir, Run: p.Host.RunDir, Secrets: p.Host.SecretsDir}
}

// files are those of the host beside tekton's own that the Host names, and Also.
func (p Places) files() []string {
	var out []string
	add := func(paths ...string) {
		for _, path := range paths {
			if path != "" {
				out = append(out, filepath.Clean(path))
			}
		}
	}
	h := p.Host
	for _, c := range h.Ingress.Certificates {
		add(c.CertFile, c.KeyFile)
	}
	add(h.Ingress.ACME.RootsFile, h.Git.KnownHostsFile)
	for _, s := range h.Sources {
		if g := s.Git; g != nil {
			add(g.Auth.SSHKeyFile, g.Auth.KnownHostsFile, g.Auth.TokenFile)
			if g.Verify != nil {
				add(g.Verify.AllowedSignersFile)
			}
		}
	}
	for _, n := range h.Notifications {
		add(n.TokenFile)
	}
	add(p.Also...)
	slices.Sort(out)
	return slices.Compact(out)
}

func filePart(path string) string { return GroupFiles + "/" + url.QueryEscape(path) }

// all are the places of all parts but the Host itself and databases.
func (p Places) all() []place {
	var out []place
	for _, s := range state(p.Layout()) {
		out = append(out, place{GroupState + "/" + s.part, s.path})
	}
	for i, s := range p.Host.Sources {
		if s.Git == nil { // after the ledger, which knows what was in them
			out = slices.Insert(out, 1+i, place{GroupSources + "/" + s.Name, s.Path})
		}
	}
	out = append(out, place{PartSecrets, p.Layout().Secrets})
	for _, f := range p.files() {
		out = append(out, place{filePart(f), f})
	}
	return out
}

// errElsewhere says that the host has no place for a part.
var errElsewhere = errors.New("this host has no place for it")

// of is where a part goes on this host.
func (p Places) of(part string) (string, error) {
	group, name, _ := strings.Cut(part, "/")
	if group == GroupDatabases {
		return filepath.Join(p.Layout().Restored(), name), nil
	}
	for _, place := range p.all() {
		if place.part == part {
			return place.path, nil
		}
	}
	switch group {
	case GroupSources:
		return "", fmt.Errorf("%w: its Host has no source %q that is a directory", errElsewhere, name)
	case GroupFiles:
		path, err := url.QueryUnescape(name)
		if err != nil {
			return "", fmt.Errorf("part %q: %w", part, err)
		}
		return "", fmt.Errorf("%w: its Host does not name %s; to have it there: --also %s", errElsewhere, path, path)
	}
	return "", fmt.Errorf("%w: part %q", errElsewhere, part)
}
