package database

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"tekton.host/pkg/resource"
)

const (
	identMap   = "tekton"
	restoreMap = "restore"
	fileHeader = "# Written by tekton; changes are overwritten.\n"
)

// entry is one line of pg_hba.conf: an access, and whose it is.
type entry struct {
	access   resource.Access
	mark     resource.Mark
	instance string
}

// hba is the content of pg_hba.conf.
type hba struct {
	entries map[string]entry // by resource name
	// restore names databases (and their roles) that a restore is writing to.
	restore []string
}

// accessName is the resource name of an access.
func accessName(a resource.Access) string { return a.Role + "@" + a.Addr.String() }

// render is deterministic: same content, same bytes. Whoever is not listed is
// refused, so there is no closing "reject" line.
func (h hba) render() []byte {
	var b strings.Builder
	b.WriteString(fileHeader)
	fmt.Fprintf(&b, "local all %s peer map=%s\n", admin, identMap)
	for _, name := range h.restore {
		fmt.Fprintf(&b, "local %q %q peer map=%s\n", name, name, restoreMap)
	}
	lines := make([]entry, 0, len(h.entries))
	for _, e := range h.entries {
		lines = append(lines, e)
	}
	slices.SortFunc(lines, func(a, b entry) int {
		return cmp.Or(a.access.Addr.Compare(b.access.Addr), cmp.Compare(a.access.Role, b.access.Role))
	})
	for _, e := range lines {
		fmt.Fprintf(&b, "host %q %q %s/32 scram-sha-256 # %s %s\n", e.access.Database, e.access.Role, e.access.Addr, e.mark, e.instance)
	}
	return []byte(b.String())
}

var hbaLine = regexp.MustCompile(`^host "([^"]+)" "([^"]+)" ([0-9.]+)/32 scram-sha-256 # (\S+) ?(\S*)$`)

// parseHBA reads the accesses of this installation. Lines that we would not
// have written are left out, so that render differs from the file and the
// cluster's next Put removes them.
func parseHBA(content []byte, installation string) hba {
	h := hba{entries: map[string]entry{}}
	for line := range strings.Lines(string(content)) {
		f := hbaLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if f == nil {
			continue
		}
		addr, err := netip.ParseAddr(f[3])
		mark, ok := resource.ParseMark(f[4])
		if err != nil || !ok || mark.Installation != installation {
			continue
		}
		a := resource.Access{Role: f[2], Database: f[1], Addr: addr}
		h.entries[accessName(a)] = entry{access: a, mark: mark, instance: f[5]}
	}
	return h
}

// ident maps the users of the host that may be the superuser over the socket:
// root, and the cluster's own user (pg_dump). While a restore runs, the latter
// may also be the role that is restored, so that no code of a dump ever runs
// with more rights than its owner had.
func ident(user string, restore []string) []byte {
	var b strings.Builder
	b.WriteString(fileHeader)
	fmt.Fprintf(&b, "%s root %s\n%s %q %s\n", identMap, admin, identMap, user, admin)
	for _, name := range restore {
		fmt.Fprintf(&b, "%s %q %q\n", restoreMap, user, name)
	}
	return []byte(b.String())
}
