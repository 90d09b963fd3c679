package e2e_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
	"tekton.host/test/systemdhost"
)

// snapshot is the whole host as independent readers have it, a sorted list of
// lines by what is looked at. What chance, time or the number of tries has
// chosen — process ids, slots, ordinals, UIDs, passwords — is replaced by whose
// it is: what belongs to nobody keeps its name and differs.
type snapshot map[string][]string

// unseen are the lines of a snapshot that tell what could not be looked at.
const unseen = "unseen"

// snapshot needs the host for itself: all that is on it is in there.
func (k *tekton) snapshot() snapshot {
	k.t.Helper()
	normal := k.normal()
	s := snapshot{}
	add := func(what string, lines ...string) {
		for _, l := range lines {
			s[what] = append(s[what], normal(l))
		}
		slices.Sort(s[what])
	}
	try := func(what string, lines []string, err error) {
		if add(what, lines...); err != nil {
			add(unseen, fmt.Sprintf("%s: %v", what, err))
		}
	}
	addJSON := func(what, text string) {
		lines, err := jsonLines(text)
		try(what, lines, err)
	}
	for what, args := range map[string]string{
		"links": "-d link show", "addresses": "address show", "rules": "rule show", "rules6": "-6 rule show", "routes": "route show table all",
		"routes6": "-6 route show table all", "neighbors": "neigh show nud permanent",
	} {
		addJSON(what, output(append([]string{"ip", "-j"}, strings.Fields(args)...)...))
	}
	addJSON("nft", k.member(output("nft", "-j", "list", "ruleset"), "nftables"))
	add("mounts", mountLines("self")...)
	add("processes", k.processLines()...)
	add("cgroups", k.cgroups()...)
	add("sysctl", strings.Split(sysctls(), "\n")...)
	add("state", k.fileLines(k.state())...)
	add("run", k.fileLines(k.path("run"))...)
	ledger, err := os.ReadFile(k.state("ledger.json"))
	k.check(err)
	addJSON("ledger", k.member(string(ledger), "claims"))
	lines, err := k.databaseLines()
	// Databases made in advance are a stock: how many there are at a moment is no promise.
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, `"spare-`) })
	try("databases", lines, err)
	lines, err = k.caddyLines()
	try("ingress", lines, err)
	if systemdhost.Inside() {
		for _, dir := range []string{"/etc/nixos-containers", "/var/lib/nixos-containers", "/nix/var/nix/profiles/per-container", "/nix/var/nix/gcroots/per-container"} {
			add("containers", k.fileLines(dir)...)
		}
		units := strings.Fields(output("sh", "-c", "systemctl list-units --all --plain --no-legend 'tekton*' 'container@*' | cut -d' ' -f1"))
		for _, u := range units {
			add("units", strings.Join(strings.Fields(output("systemctl", "show", "-p", "Id,Description,ActiveState,SubState,Slice,Delegate,KillMode,Restart,NRestarts,MemoryMax,TasksMax,FragmentPath,Transient", u)), " "))
		}
	}
	for _, i := range k.items() {
		pid := strconv.Itoa(k.leader(i.Metadata.Name))
		add("mounts of "+i.Metadata.Name, mountLines(pid)...)
		for _, what := range []string{"-d address show", "route show table all", "neigh show"} {
			args := append([]string{"nsenter", "-t", pid, "-n", "ip", "-j"}, strings.Fields(what)...)
			addJSON("network of "+i.Metadata.Name, output(args...))
		}
	}
	return s
}

func (k *tekton) items() []v1alpha1.Item {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	items, err := k.api().List(ctx)
	k.check(err)
	return items
}

// stable is a snapshot that time does not change: slots have cooled down,
// PostgreSQL's sessions and spare databases are what they will be.
func (k *tekton) stable() (s snapshot) {
	k.t.Helper()
	k.eventually("the host rests", func() error {
		before := s
		s = k.snapshot()
		if faults := s[unseen]; len(faults) > 0 {
			return fmt.Errorf("not all could be looked at: %q", faults)
		}
		if claims := strings.Join(s["ledger"], "\n"); strings.Contains(claims, `"freed"`) {
			return fmt.Errorf("a slot cools down: %s", claims)
		}
		if diff := before.diff(s); diff != "" {
			return fmt.Errorf("-before +after:\n%s", diff)
		}
		return nil
	})
	return s
}

// diff has the lines that only one of two snapshots has.
func (s snapshot) diff(o snapshot) string {
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(mergedKeys(s, o))) {
		count := map[string]int{}
		for _, l := range s[what] {
			count[l]--
		}
		for _, l := range o[what] {
			count[l]++
		}
		for _, l := range slices.Sorted(maps.Keys(count)) {
			switch n := count[l]; {
			case n < 0:
				fmt.Fprintf(&b, "%s: - %s\n", what, l)
			case n > 0:
				fmt.Fprintf(&b, "%s: + %s\n", what, l)
			}
		}
	}
	return b.String()
}

func mergedKeys(s, o snapshot) map[string]bool {
	all := map[string]bool{}
	for _, x := range []snapshot{s, o} {
		for what := range x {
			all[what] = true
		}
	}
	return all
}

var (
	reTime    = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
	reBoot    = regexp.MustCompile(`\b[A-Z2-7]{26}\b`)
	reUUID    = regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`)
	reTrashed = regexp.MustCompile(`/trash/\d+-|/trash/(databases/[a-z0-9_-]+)\.\d+\b`)
	reSpare   = regexp.MustCompile(`\bspare-INSTALLATION-[0-9a-f]{16}\b`)
	reGone    = regexp.MustCompile(`(tekton/INSTALLATION/|"owner":")[0-9a-f]{16}\b`)
	reNumber  = regexp.MustCompile(`("logMax":|^/proc/sys/.* )?\b\d{6,10}\b`) // a user, but for those that are sizes
)

// normal replaces what chance has chosen in a line.
func (k *tekton) normal() func(string) string {
	installation, err := os.ReadFile(k.state("installation"))
	k.check(err)
	type rule struct {
		re   *regexp.Regexp
		with string
	}
	var rules []rule
	add := func(what, with string) {
		rules = append(rules, rule{regexp.MustCompile(`\b` + regexp.QuoteMeta(what) + `\b`), with})
	}
	naming := resource.Naming{Instance: k.instance, Subnet: netip.MustParsePrefix(k.subnet)}
	bases := map[int]string{}
	for _, i := range k.items() {
		name, slot := i.Metadata.Name, i.Status.Slot
		add(i.Metadata.UID, "OF-"+name)
		if slot == 0 {
			continue
		}
		add(i.Status.Machine, name+"-N")
		add(naming.Link(slot), "LINK-OF-"+name)
		add(naming.HostAddr(slot).String(), "GATEWAY-OF-"+name)
		add(naming.Addr(slot).String(), "ADDRESS-OF-"+name)
		add(resource.MAC(naming.HostAddr(slot)).String(), "GATEWAY-MAC-OF-"+name)
		add(resource.MAC(naming.Addr(slot)).String(), "MAC-OF-"+name)
		add(fmt.Sprintf("slot/%d", slot), "slot/OF-"+name)
		rules = append(rules, rule{regexp.MustCompile(fmt.Sprintf(`"slot":%d\b`, slot)), `"slot":"OF-` + name + `"`})
		bases[int(naming.UIDBase(slot))] = name
	}
	return func(s string) string {
		s = strings.ReplaceAll(s, strings.TrimSpace(string(installation)), "INSTALLATION")
		s = reUUID.ReplaceAllString(s, "UUID")
		for _, r := range rules {
			s = r.re.ReplaceAllString(s, r.with)
		}
		s = reNumber.ReplaceAllStringFunc(s, func(text string) string {
			n, _ := strconv.Atoi(text)
			base := n - (n-resource.UIDFirst)%resource.UIDRange
			if name, used := bases[base]; used && n >= resource.UIDFirst {
				return fmt.Sprintf("UID-OF-%s+%d", name, n-base)
			}
			return text
		})
		for _, r := range []rule{{reTime, "TIME"}, {reBoot, "BOOT"}, {reTrashed, "/trash/$1-"}, {reSpare, "SPARE"}} {
			s = r.re.ReplaceAllString(s, r.with)
		}
		if strings.Contains(s, "/trash/") {
			s = reGone.ReplaceAllString(s, "${1}OF-WHAT-IS-GONE") // an object that nobody names any more
		}
		return s
	}
}

// volatile are fields of JSON that no two runs share.
var volatile = []string{
	"ifindex", "link_index", "link_netnsid", "handle", "packets", "bytes", // of the kernel
	"since", "revision", "boot", "supervisor", "pid", "leader", "inputs", // of the ledger and of directories of machines
	"failures", "starting", // of a start that a kill of the daemon cut short
}

// jsonLines has one line an element of a list.
func jsonLines(text string) (out []string, err error) {
	var list []any
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("%w: %q", err, text)
	}
	for _, v := range list {
		for _, o := range v.(map[string]any) {
			// An element of an nft set is a line of its own: which is first depends on its address.
			set, _ := o.(map[string]any)
			elements, _ := set["elem"].([]any)
			for _, e := range elements {
				out = append(out, fmt.Sprintf("%s of %s %s", compact(e), set["table"], set["name"]))
			}
			delete(set, "elem")
		}
		out = append(out, compact(v))
	}
	return out, nil
}

// compact is a value as one line.
func compact(v any) string {
	b, err := json.Marshal(scrub(v))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func scrub(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, f := range volatile {
			delete(v, f)
		}
		for f := range v {
			v[f] = scrub(v[f])
		}
	case []any:
		for i := range v {
			v[i] = scrub(v[i])
		}
	}
	return v
}

// Numbers of the kernel, sizes that it derives from the machine's memory, and
// the names that nspawn gives to what it puts over files of /proc.
var reMount = regexp.MustCompile(`^\d+ \d+ \d+:\d+ |\b(shared|master|propagate_from):\d+ ?|,?\b(size|nr_inodes)=\d+k?`)
var reOverProc = regexp.MustCompile(`(/\.#proc-[a-z-]*?)[0-9a-f]{16}\b`)

// mountLines are the mounts that a process has, without the kernel's numbers.
func mountLines(pid string) []string {
	b, err := os.ReadFile("/proc/" + pid + "/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		out = append(out, reOverProc.ReplaceAllString(reMount.ReplaceAllString(strings.TrimSpace(line), ""), "$1"))
	}
	return out
}

// processLines are the processes with their users and cgroups. Sessions of
// PostgreSQL and its workers come and go.
func (k *tekton) processLines() (out []string) {
	for _, line := range k.processes(func(p process) bool {
		return !strings.Contains(p.cmdline, "postgres: tekton") && !strings.Contains(p.cmdline, "postgres: autovacuum worker")
	}) {
		pid, cmdline, _ := strings.Cut(line, " ")
		status, err := os.ReadFile("/proc/" + pid + "/status")
		if err != nil {
			continue // it has ended
		}
		cgroup, _ := os.ReadFile("/proc/" + pid + "/cgroup")
		ids := ""
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "Uid:") || strings.HasPrefix(line, "Gid:") {
				ids += strings.Join(strings.Fields(line), " ") + " "
			}
		}
		out = append(out, ids+cmdline+" "+strings.Join(strings.Fields(string(cgroup)), " "))
	}
	return out
}

// noContent are files whose content and size are others' business or chance,
// or, pg_hba.conf, in the order of addresses: catalogue has it as PostgreSQL reads it.
var noContent = regexp.MustCompile(`/log(\.times)?(\.1)?$|/storage/|/passwords/[^.]|/digest\.key$|/dump$|/ledger\.json(\.1)?$|/containers/[^/]+/environment$|/autosave\.json$|/\.s\.PGSQL|/pg_hba\.conf$`)

// fileLines are the files below a directory: what they are, whose, and what is in them.
func (k *tekton) fileLines(dir string) (out []string) {
	k.t.Helper()
	generations := k.state("services", "caddy", "generations")
	current, _ := os.Readlink(k.state("services", "caddy", "current"))
	kept := 0
	k.check(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone meanwhile
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if path == k.state("services", "postgres", "data") {
			return fs.SkipDir // PostgreSQL's own; databaseLines asks it
		}
		if strings.HasPrefix(path, k.state("events.jsonl")) || strings.HasPrefix(path, k.state("history")) {
			return nil // a killed daemon tells less
		}
		if d.IsDir() && d.Name() == "previous" && filepath.Dir(filepath.Dir(path)) == k.state("machines") {
			return fs.SkipDir // the log of a machine that only one of the two ways had
		}
		name := path
		if current != "" {
			name = strings.Replace(path, current, "generations/CURRENT", 1)
		}
		if _, err := strconv.Atoi(d.Name()); err == nil && filepath.Dir(path) == generations {
			// Caddy keeps one former configuration, which is of the way here.
			if kept++; name == path && kept <= 2 {
				return fs.SkipDir
			}
		}
		out = append(out, fileLine(path, name, info))
		return nil
	}))
	return out
}

func fileLine(path, name string, info fs.FileInfo) string {
	sys := info.Sys().(*syscall.Stat_t)
	line := fmt.Sprintf("%s %s %d %d", name, info.Mode(), sys.Uid, sys.Gid)
	if target, err := os.Readlink(path); err == nil {
		return line + " -> " + regexp.MustCompile(`^generations/\d+$`).ReplaceAllString(target, "generations/CURRENT")
	}
	if !info.Mode().IsRegular() || noContent.MatchString(path) || info.Size() > 1<<20 {
		return line
	}
	b, err := os.ReadFile(path)
	var v any
	if err == nil && json.Unmarshal(b, &v) == nil {
		return line + " " + compact(v)
	}
	return fmt.Sprintf("%s %q %v", line, b, err)
}

// member is one of a JSON object's.
func (k *tekton) member(text, name string) string {
	k.t.Helper()
	var all map[string]json.RawMessage
	k.check(json.Unmarshal([]byte(text), &all))
	return string(all[name])
}

// catalogue is what PostgreSQL has of databases and roles, and who is let in.
// The numbers of rows and transactions are its own.
var catalogue = []string{
	`SELECT to_jsonb(d) - '{oid,datdba,datfrozenxid,datminmxid}'::text[] || jsonb_build_object('owner', datdba::regrole, 'comment', shobj_description(oid, 'pg_database')) FROM pg_database d`,
	`SELECT to_jsonb(r) - '{oid,rolpassword}'::text[] || jsonb_build_object('password', left(rolpassword, 20), 'comment', shobj_description(oid, 'pg_authid')) FROM pg_authid r`,
	`SELECT jsonb_build_object('role', roleid::regrole, 'member', member::regrole, 'admin', admin_option) FROM pg_auth_members`,
	`SELECT jsonb_build_object('role', setrole::regrole, 'database', datname, 'settings', setconfig) FROM pg_db_role_setting LEFT JOIN pg_database d ON d.oid = setdatabase`,
	`SELECT to_jsonb(h) - '{line_number,rule_number}'::text[] FROM pg_hba_file_rules h`,
	`SELECT jsonb_build_object('setting', name, 'value', setting) FROM pg_settings WHERE source NOT IN ('default', 'client', 'override')`,
}

// databaseLines asks PostgreSQL itself. The second part of a SCRAM verifier is salt.
func (k *tekton) databaseLines() (out []string, err error) {
	k.t.Helper()
	if _, err := os.Stat(k.path("run", "postgres")); err != nil {
		return []string{"PostgreSQL does not run"}, nil
	}
	conn, err := k.connect("postgres")
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.Background())
	for _, q := range catalogue {
		rows, err := conn.Query(context.Background(), q)
		if err != nil {
			return nil, err
		}
		values, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, err
		}
		for _, v := range values {
			out = append(out, reSalt.ReplaceAllString(v, "SCRAM"))
		}
	}
	return out, nil
}

var reSalt = regexp.MustCompile(`SCRAM-SHA-256\$4096:[^"]*`)

// caddyLines is the configuration that Caddy says it runs.
func (k *tekton) caddyLines() ([]string, error) {
	k.t.Helper()
	socket := k.path("run", "caddy", "admin.sock")
	if _, err := os.Stat(socket); err != nil {
		return []string{"Caddy does not run"}, nil
	}
	config, err := overSocket(socket, "/config/")
	var indented bytes.Buffer
	if err := cmp.Or(err, json.Indent(&indented, []byte(config), "", " ")); err != nil {
		return nil, err
	}
	return []string{indented.String()}, nil
}
