package doctor

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// good is a host without a fault.
func good() Facts {
	h := v1alpha1.Host{}
	h.Default()
	return Facts{
		Root: true, Config: "/etc/tekton/host.yaml", Host: h.Spec, Installed: true,
		Programs: []Program{
			{Name: Nspawn, Path: "/usr/bin/systemd-nspawn", Version: "257.12"}, {Name: Nft, Path: "/usr/sbin/nft", Version: "1.1.3"},
			{Name: Caddy, Path: "/usr/bin/caddy", Version: "2.11.4"}, {Name: Postgres, Path: "/usr/lib/postgresql/17/bin/postgres", Version: "17.10"},
			{Name: Git, Path: "/usr/bin/git", Version: "2.47.3"}, {Name: Nix},
		},
		Kernel: Kernel{Release: "6.12.57+deb13-amd64", Version: "6.12.57", Features: []Feature{
			{Name: UserNamespaces}, {Name: IDMap, Where: "/var/lib/tekton"}, {Name: Overlay}, {Name: NfTables},
			{Name: CgroupV2, Where: "/sys/fs/cgroup"}, {Name: Limits, Warns: true},
		}},
		Settings: map[string]string{"fs.inotify.max_user_instances": "8192", "fs.inotify.max_user_watches": "1048576", LooseCheck: "0"},
		Network:  Network{Networkd: true},
		Names:    []Resolver{{Addr: "192.0.2.53:53"}},
		Ports:    []Port{{Name: "http", Field: "spec.ingress.httpPort", Addr: "*:80/tcp"}},
		Dirs: []Dir{
			{Field: "stateDir", Path: "/var/lib/tekton", Want: 0o711, Most: 0o755, Precious: true, Exists: true, Mode: 0o711},
			{Field: "runDir", Path: "/run/tekton", Want: 0o711, Most: 0o755, Exists: true, Mode: 0o711},
			{Field: "secretsDir", Path: "/var/lib/tekton/secrets", Want: 0o700, Most: 0o700, Precious: true, Exists: true, Mode: 0o700},
		},
		Disks:   []Disk{{Path: "/var/lib/tekton", Type: "ext4", Free: 40 << 30, Size: 100 << 30, FreeInodes: 900, Inodes: 1000}},
		Daemon:  Daemon{Socket: "/run/tekton/tekton.sock", Version: "v1", Client: "v1", Installation: "0123456789ab", Expected: "0123456789ab", Ready: 3},
		Sources: []Source{{Name: "local", Where: "/var/lib/tekton/specs", Objects: 3}},
		Trial: &Trial{Link: "tkd1", Subnet: "10.255.255.240/28", Flows: []Flow{
			{Name: "a machine reaches DNS (udp 53)"}, {Name: "a machine reaches the internet"},
		}},
	}
}

func text(findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%s | %s | %s | %s\n", f.Level, f.Group, f.Check, f.Says)
		for _, more := range []struct{ name, text string }{{"where", f.Where}, {"fix", f.Fix}} {
			if more.text != "" {
				fmt.Fprintf(&b, "  %s: %s\n", more.name, more.text)
			}
		}
		for _, c := range f.Changes {
			fmt.Fprintf(&b, "  change: %s\n", strings.ReplaceAll(strings.TrimSpace(c.String()), "\n", "\n    "))
		}
	}
	return b.String()
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", file, d)
	}
}

// TestGoodHost: a host without a fault has no finding above OK.
func TestGoodHost(t *testing.T) {
	r := Judge(good())
	if n := r.Count(OK); n != len(r.Findings) || len(r.Changes()) > 0 {
		t.Errorf("%d of %d findings are fine, changes %v", n, len(r.Findings), r.Changes())
	}
	golden(t, "testdata/good.txt", text(r.Findings))
}

func program(f *Facts, name string) *Program {
	return &f.Programs[slices.IndexFunc(f.Programs, func(p Program) bool { return p.Name == name })]
}

func feature(f *Facts, name string) *Feature {
	return &f.Kernel.Features[slices.IndexFunc(f.Kernel.Features, func(x Feature) bool { return x.Name == name })]
}

// faults are made one at a time; what differs from the good host's report is in
// testdata/faults.txt.
var faults = []struct {
	name string
	make func(*Facts)
}{
	{"configuration: wrong", func(f *Facts) { f.Problems = []string{"/etc/tekton/host.yaml:3:9: spec.subnet: no"} }},
	{"configuration: none", func(f *Facts) { f.Config = "" }},
	{"nspawn: missing", func(f *Facts) { program(f, Nspawn).Path = "" }},
	{"nspawn: missing on NixOS", func(f *Facts) { program(f, Nspawn).Path = ""; f.NixOS = true }},
	{"nspawn: flaw", func(f *Facts) { program(f, Nspawn).Version = "257.11" }},
	{"nspawn: flaw on NixOS", func(f *Facts) { program(f, Nspawn).Version = "257.11"; f.NixOS = true }},
	{"nspawn: flaw mended by the distribution", func(f *Facts) {
		program(f, Nspawn).Version, program(f, Nspawn).Mended = "252", []string{"CVE-2026-40226"}
	}},
	{"nspawn: older than tested", func(f *Facts) { program(f, Nspawn).Version = "249" }},
	{"nspawn: no version", func(f *Facts) { program(f, Nspawn).Version = "unknown" }},
	{"nspawn: does not run", func(f *Facts) { program(f, Nspawn).Err = "systemd-nspawn --version: exit status 127" }},
	{"caddy: old", func(f *Facts) { program(f, Caddy).Version = "2.6.2" }},
	{"caddy: flaw, managed", func(f *Facts) { program(f, Caddy).Version = "2.10.2" }},
	{"caddy: flaw, the host's own", func(f *Facts) { program(f, Caddy).Version = "2.10.2"; f.Host.Ingress.Mode = "system" }},
	{"caddy: missing", func(f *Facts) { program(f, Caddy).Path = "" }},
	{"caddy: missing and not needed", func(f *Facts) { program(f, Caddy).Path = ""; f.Host.Ingress.Mode = "none" }},
	{"postgres: too old", func(f *Facts) { program(f, Postgres).Version = "14.23" }},
	{"postgres: flaw", func(f *Facts) { program(f, Postgres).Version = "17.9" }},
	{"git: missing for a source", func(f *Facts) {
		program(f, Git).Path, f.Host.Sources = "", []v1alpha1.SourceConfig{{Name: "ops", Git: &v1alpha1.GitSource{}}}
	}},
	{"git: flaw", func(f *Facts) { program(f, Git).Version = "2.45.0" }},
	{"nix: flaw", func(f *Facts) { *program(f, Nix) = Program{Name: Nix, Path: "/usr/bin/nix", Version: "2.31.3"} }},
	{"tekton: incomplete", func(f *Facts) { f.Ours = []string{"/usr/bin/tekton-init"} }},
	{"kernel: flaw", func(f *Facts) { f.Kernel.Release, f.Kernel.Version = "6.1.0-17-amd64", "6.1.69" }},
	{"kernel: release not known", func(f *Facts) { f.Kernel.Release, f.Kernel.Version = "6.1.0-17-amd64", "" }},
	{"kernel: no user namespaces", func(f *Facts) { feature(f, UserNamespaces).Err = "user.max_user_namespaces is 0: the host allows none" }},
	{"kernel: no idmapped mounts", func(f *Facts) { feature(f, IDMap).Err = "map the ids of /var/lib/tekton: invalid argument" }},
	{"kernel: no overlay", func(f *Facts) { feature(f, Overlay).Err = "the kernel has no overlay file system: no such device" }},
	{"kernel: no nf_tables", func(f *Facts) { feature(f, NfTables).Err = "nft list tables: exit status 1" }},
	{"kernel: no cgroup v2", func(f *Facts) { feature(f, CgroupV2).Err = "no cgroup v2 hierarchy" }},
	{"kernel: limits not enforced", func(f *Facts) {
		feature(f, Limits).Err = "memory: the memory controller is bound to a cgroup v1 hierarchy"
	}},
	{"not root", func(f *Facts) {
		f.Root, f.Network.Unseen = false, "operation not permitted"
		feature(f, Overlay).Unseen = "only root can try"
		f.Ports[0].Err, f.Dirs[2].Err = "only root sees whose socket it is", "permission denied"
	}},
	{"inotify: low", func(f *Facts) { f.Settings["fs.inotify.max_user_instances"] = "128" }},
	{"inotify: low on NixOS", func(f *Facts) { f.Settings["fs.inotify.max_user_watches"] = "8192"; f.NixOS = true }},
	{"source addresses: loose", func(f *Facts) { f.Settings[LooseCheck] = "2" }},
	{"network: clash", func(f *Facts) { f.Network.Clash = "subnet 10.100.0.0/16 overlaps the address 10.100.3.1/24 of eth1" }},
	{"networkd: removes rules", func(f *Facts) { f.Network.NetworkdRules = true }},
	{"networkd: removes routes on NixOS", func(f *Facts) { f.Network.NetworkdRoutes = true; f.NixOS = true }},
	{"networkd: unreadable", func(f *Facts) { f.Network.NetworkdUnknown = "permission denied" }},
	{"names: nobody", func(f *Facts) { f.Names = nil }},
	{"names: not needed", func(f *Facts) { f.Names = nil; f.Host.DNS.Mode = "none" }},
	{"names: silent", func(f *Facts) { f.Names[0].Err = "i/o timeout" }},
	{"firewall: not tried", func(f *Facts) { f.Trial = nil }},
	{"firewall: no machine", func(f *Facts) { f.Trial = &Trial{Err: "container/doctor: StartFailed: no"} }},
	{"firewall: drops", func(f *Facts) { f.Trial.Flows[0].Err = "i/o timeout" }},
	{"firewall: drops, and by whom", func(f *Facts) {
		f.Trial.Flows[0].Err, f.Trial.Flows[0].By = "i/o timeout", "inet filter input (policy drop)"
	}},
	{"firewall: not tried in part", func(f *Facts) { f.Trial.Flows[1].Unseen = "the host has no default route" }},
	{"firewall: left by another doctor", func(f *Facts) { f.TrialLeft = "/var/lib/tekton/doctor" }},
	{"ports: taken", func(f *Facts) { f.Ports[0].User = "nginx (process 812)" }},
	{"files: gone", func(f *Facts) { f.Dirs[1].Exists = false }},
	{"files: gone, and what was in it", func(f *Facts) { f.Dirs[2].Exists = false }},
	{"files: not there yet", func(f *Facts) { f.Dirs[2].Exists, f.Installed = false, false }},
	{"files: somebody's", func(f *Facts) { f.Dirs[0].UID = 1000 }},
	{"files: open", func(f *Facts) { f.Dirs[2].Mode = 0o755 }},
	{"files: open secret", func(f *Facts) { f.Refused = map[string]string{"token": "is open to others (mode 0644); …"} }},
	{"files: empty secret", func(f *Facts) { f.Refused = map[string]string{"token": "is empty"} }},
	{"disk: low", func(f *Facts) { f.Disks[0].Free = 1 << 30 }},
	{"disk: nearly full", func(f *Facts) { f.Disks[0].Free = 100 << 20 }},
	{"disk: few inodes", func(f *Facts) { f.Disks[0].FreeInodes = 30 }},
	{"disk: hardly an inode", func(f *Facts) { f.Disks[0].FreeInodes = 3 }},
	{"disk: not seen", func(f *Facts) { f.Disks[0].Err = "input/output error" }},
	{"daemon: does not answer", func(f *Facts) { f.Daemon.Err = "reach the daemon: nobody listens on /run/tekton/tekton.sock" }},
	{"daemon: never ran", func(f *Facts) { f.Daemon.Err, f.Installed = "reach the daemon: there is no socket", false }},
	{"daemon: another's", func(f *Facts) { f.Daemon.Installation = "ba9876543210" }},
	{"daemon: another version", func(f *Facts) { f.Daemon.Version = "v0" }},
	{"daemon: objects", func(f *Facts) { f.Daemon.NotReady = []string{"web (Failed)"} }},
	{"sources: unread", func(f *Facts) { f.Sources[0].Err = "open /var/lib/tekton/specs: permission denied" }},
	{"sources: problems", func(f *Facts) { f.Sources[0].Problems = []string{"web.yaml:3:1: spec.prot: unknown field"} }},
	{"sources: holds", func(f *Facts) { f.Sources[0].Held = 4 }},
}

// TestFaults: each fault makes its own finding, and takes none away from others.
func TestFaults(t *testing.T) {
	before := Judge(good()).Findings
	var b strings.Builder
	for _, fault := range faults {
		f := good()
		fault.make(&f)
		fmt.Fprintf(&b, "## %s\n", fault.name)
		var differs []Finding
		for _, x := range Judge(f).Findings {
			if !slices.ContainsFunc(before, func(y Finding) bool { return cmp.Equal(x, y) }) {
				differs = append(differs, x)
			}
			if x.Level == Error && x.Fix == "" {
				t.Errorf("%s: an error without a way out: %+v", fault.name, x)
			}
		}
		b.WriteString(text(differs))
	}
	golden(t, "testdata/faults.txt", b.String())
}

func TestAffected(t *testing.T) {
	mended := []string{"257.12", "258.6", "259.4", "260"}
	for v, want := range map[string]bool{
		"232": false, "233": true, "252.39": true, "257.11": true, "257.12": false, "257.13": false, "258": true, "258.5": true,
		"259.4": false, "260": false, "261.1": false, "": false, "unknown": false,
	} {
		if got := parseVersion(v).affected("233", mended...); got != want {
			t.Errorf("%q: %v, want %v", v, got, want)
		}
	}
	for v, want := range map[string]bool{"3.14": false, "5.15.148": true, "5.15.149": false, "6.1.75-rc1": true, "6.6.15": false, "6.7.2": true, "6.8": false, "6.5.9": true} {
		if got := parseVersion(v).affected("3.15", "5.15.149", "6.1.76", "6.6.15", "6.7.3", "6.8"); got != want {
			t.Errorf("%q: %v, want %v", v, got, want)
		}
	}
}

// TestFlawsHaveSources: nothing is called bad on nobody's word.
func TestFlawsHaveSources(t *testing.T) {
	for _, f := range flaws {
		if f.source == "" || f.says == "" || len(f.mended) == 0 {
			t.Errorf("%+v lacks its source, its words or its end", f)
		}
	}
}

// TestReportAsJSON: what -o json prints can be read back.
func TestReportAsJSON(t *testing.T) {
	f := good()
	f.Dirs[2].Mode = 0o755
	r := Judge(f)
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, back); d != "" || !strings.Contains(string(raw), `"mode":"0700"`) {
		t.Errorf("(-want +got):\n%s\n%s", d, raw)
	}
}
