package onhost

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gofrs/flock"
	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/doctor"
	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

func TestUpstream(t *testing.T) {
	for _, c := range []struct{ release, build, signature, want string }{
		{"6.1.0-18-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)", "", "6.1.76"},
		{"6.12.57+deb13-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.57-1 (2025-11-05)", "", "6.12.57"},
		{"5.15.0-91-generic", "#101-Ubuntu SMP", "Ubuntu 5.15.0-91.101-generic 5.15.131\n", "5.15.131"},
		{"6.6.30", "#1-NixOS SMP", "", "6.6.30"},
		{"5.14.0-427.el9.x86_64", "#1 SMP", "", ""},
		{"6.8", "#1", "", "6.8"},
	} {
		if got := upstream(c.release, c.build, c.signature); got != c.want {
			t.Errorf("%s: %q, want %q", c.release, got, c.want)
		}
	}
}

func TestVersionIn(t *testing.T) {
	for answer, want := range map[string]string{
		"systemd 252 (252.39-1~deb12u2)": "252.39", "systemd 257 (257.9)": "257.9", "systemd 258": "258", "nftables v1.0.6 (Lester Gooch #5)": "1.0.6",
		"2.6.2": "2.6.2", "v2.11.4 h1:XKxkuSXsbzNwp1jKfeqi1ZM+r0TpLwHCAyrmPZRtBxk=": "2.11.4", "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)": "15.18",
		"git version 2.39.5": "2.39.5", "nix (Nix) 2.8.0": "2.8.0", "command not understood": "",
	} {
		if got := versionIn(answer); got != want {
			t.Errorf("%q: %q, want %q", answer, got, want)
		}
	}
}

func TestPathIn(t *testing.T) {
	for environment, want := range map[string]string{
		"LOCALE_ARCHIVE=/nix/store/l PATH=/nix/store/a/bin:/nix/store/b/bin TZDIR=/etc/zoneinfo\n": "/nix/store/a/bin:/nix/store/b/bin", "\n": "",
	} {
		if got := pathIn(environment); got != want {
			t.Errorf("%q: %q", environment, got)
		}
	}
}

func TestNetworkd(t *testing.T) {
	write := func(root, name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		files         map[string]string
		routes, rules bool
	}{
		"nothing": {nil, true, true},
		"ours":    {map[string]string{"usr/local/lib/systemd/networkd.conf.d/tekton.conf": doctor.NetworkdDropIn}, false, false},
		"another section": {map[string]string{
			"etc/systemd/networkd.conf": "[DHCPv4]\nManageForeignRoutes=no\n[Network]\n#ManageForeignRoutes=no\nManageForeignRoutingPolicyRules = false\n"}, true, false},
		"a later name wins": {map[string]string{
			"usr/lib/systemd/networkd.conf.d/tekton.conf": doctor.NetworkdDropIn,
			"run/systemd/networkd.conf.d/zz.conf":         "[Network]\nManageForeignRoutes=yes\n"}, true, false},
		"the same name in /etc takes its place": {map[string]string{
			"usr/lib/systemd/networkd.conf.d/tekton.conf": doctor.NetworkdDropIn,
			"etc/systemd/networkd.conf.d/tekton.conf":     "# nothing\n"}, true, true},
	} {
		root := t.TempDir()
		for file, text := range c.files {
			write(root, file, text)
		}
		config, err := networkdConfig(root)
		if err != nil {
			t.Fatal(err)
		}
		if routes, rules := networkdKeeps(config); routes != c.routes || rules != c.rules {
			t.Errorf("%s: %v %v", name, routes, rules)
		}
	}
}

// TestDropInIsPackaged: doctor --fix writes what make install does.
func TestDropInIsPackaged(t *testing.T) {
	packaged, err := os.ReadFile("../../../packaging/networkd.conf")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(packaged), doctor.NetworkdDropIn); d != "" {
		t.Errorf("(-packaging/networkd.conf +written):\n%s", d)
	}
}

func TestFlawsInChangelogs(t *testing.T) {
	log := "systemd (252.39-1~deb12u2) bookworm\n\n  * CVE-2026-40226 (In nspawn …)\n  * Fix CVE-1999-0001\n"
	if d := cmp.Diff([]string{"CVE-2026-40226"}, flawsIn(strings.NewReader(log))); d != "" {
		t.Error(d)
	}
}

func TestCulprit(t *testing.T) {
	var w watched
	w.Write([]byte("trace id 0a1b inet tekton_doctor from rule iifname \"tkd1\" meta nftrace set 1 (verdict continue)\n" +
		"trace id 0a1b inet others incoming verdict continue\n"))
	if by := w.culprit(); by != "" {
		t.Errorf("nobody has dropped it: %q", by)
	}
	w.Write([]byte("trace id 0a1b ip filter FORWARD policy drop\n"))
	if by := w.culprit(); by != "ip filter FORWARD policy drop" {
		t.Errorf("%q", by)
	}
}

// TestMend: each change is done, twice is once, and a link is not followed.
func TestMend(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	mend := func(c doctor.Change) error { return Mend(t.Context(), c, v1alpha1.HostSpec{}, "") }
	for range 2 {
		for _, c := range []doctor.Change{
			{Kind: doctor.MakeDir, Path: in("run/tekton"), Mode: 0o711},
			{Kind: doctor.WriteFile, Path: in("etc/sysctl.d/90.conf"), Mode: 0o644, Text: "a = 1\n"},
			{Kind: doctor.SetMode, Path: in("etc"), Mode: 0o700},
		} {
			if err := mend(c); err != nil {
				t.Fatalf("%s: %v", c, err)
			}
		}
	}
	for path, want := range map[string]fs.FileMode{"run/tekton": 0o711, "etc": 0o700, "etc/sysctl.d/90.conf": 0o644} {
		if info, err := os.Stat(in(path)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v", path, info, err)
		}
	}
	if err := os.Symlink("etc", in("link")); err != nil {
		t.Fatal(err)
	}
	if err := mend(doctor.Change{Kind: doctor.SetMode, Path: in("link"), Mode: 0o777}); err == nil {
		t.Error("the mode of what a link leads to was changed")
	}
	if err := mend(doctor.Change{Kind: "unheard of"}); err == nil {
		t.Error("an unknown change was done")
	}
}

// TestConfiguration: what is wrong in the file is told with its place, and the
// defaults are looked at.
func TestConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "host.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: tekton.host/v1alpha1\nkind: Host\nspec: {subnet: 10.0.0.0/33}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, h, problems := configuration(file)
	if len(problems) != 1 || !strings.Contains(problems[0], "host.yaml:3:") || h.Subnet == "" || h.StateDir == "" {
		t.Errorf("%q %+v", problems, h)
	}
	if _, _, problems = configuration(file + ".none"); len(problems) != 1 {
		t.Errorf("%q", problems)
	}
}

// TestTrialNames: a firewall that knows the real links by their beginning knows the trial's.
func TestTrialNames(t *testing.T) {
	for instance, want := range map[string]string{"": "d", "a": "ad", "abc": "abcd", "abcx": "abcd", "abcd": "abce"} {
		if got := newTrial(v1alpha1.HostSpec{Instance: instance}, "").naming.Instance; got != want {
			t.Errorf("%q: %q, want %q", instance, got, want)
		}
	}
}

// TestPorts: a port of ours that somebody else has is told; none is forgotten.
func TestPorts(t *testing.T) {
	https := 0
	h := v1alpha1.HostSpec{Subnet: "127.99.0.0/24"}
	h.Ingress.Mode, h.Ingress.HTTPSPort = "managed", &https
	taken, err := net.Listen("tcp4", fmt.Sprintf("127.99.0.1:%d", resource.ActivatorPort))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	all := ports(h, host.Layout{State: t.TempDir()})
	if len(all) != 1 || all[0].Addr != taken.Addr().String()+"/tcp" || all[0].User+all[0].Err == "" {
		t.Errorf("of %s it is said %+v", taken.Addr(), all)
	}
}

// TestTrialLeft: looking changes nothing, and who is at it has left nothing.
func TestTrialLeft(t *testing.T) {
	trial := newTrial(v1alpha1.HostSpec{StateDir: t.TempDir(), Instance: "test"}, "")
	if err := errors.Join(os.Mkdir(trial.dir, 0o700), os.WriteFile(trial.config(), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if left := trialLeft(trial.real); left != trial.dir {
		t.Errorf("left is %q", left)
	}
	if _, err := os.Stat(trial.dir + ".lock"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a lock is left (%v)", err)
	}
	lock := flock.New(trial.dir + ".lock")
	defer lock.Close()
	if locked, err := lock.TryLock(); !locked {
		t.Fatal(err)
	}
	if left := trialLeft(trial.real); left != "" {
		t.Errorf("%q is in use", left)
	}
}
