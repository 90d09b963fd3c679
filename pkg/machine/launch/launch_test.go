package launch

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/resource"
)

func testInstance() resource.Instance {
	return resource.Instance{
		Name: "web-1", Slot: 3, Hostname: "web", System: resource.System{Host: true}, Command: []string{"sh"},
		UIDBase: 720896, Addr: netip.MustParseAddr("10.100.0.7"),
	}
}

func TestNspawnArgs(t *testing.T) {
	common := []string{
		"--keep-unit", "--register=no", "--quiet", "--settings=no", "--link-journal=no", "--resolv-conf=off", "--timezone=off",
		"--private-network", "--machine=web-1", "--hostname=web", "--uuid=UUID", "--directory=/m/stage/root",
	}
	users := []string{"--private-users=720896:65536", "--private-users-ownership=off"}
	const stop, end = "--kill-signal=SIGRTMIN+3", "/run/tekton/init"
	const drop = "--drop-capability=CAP_AUDIT_CONTROL,CAP_MKNOD,CAP_NET_RAW,CAP_SYS_TIME"
	for _, tt := range []struct {
		name   string
		change func(*resource.Instance)
		binds  []resource.Bind
		want   [][]string
	}{
		{"command", nil, []resource.Bind{{Source: "/a:b", Target: `/c\d`}, {Source: "/e", Target: "/f", ReadOnly: true}}, [][]string{
			users, {drop, stop, "--as-pid2", "--console=pipe", `--bind=/a\:b:/c\\d`, "--bind-ro=/e:/f", "--", end}}},
		{"init", func(i *resource.Instance) { i.Command = nil }, nil, [][]string{
			users, {drop, stop, "--console=passive", "--", end}}},
		{"trusted", func(i *resource.Instance) { i.UIDBase, i.Capability = 0, []string{"CAP_NET_RAW", "CAP_SYS_MODULE"} }, nil, [][]string{
			{"--drop-capability=CAP_AUDIT_CONTROL,CAP_MKNOD,CAP_SYS_TIME", "--capability=CAP_NET_RAW,CAP_SYS_MODULE", stop, "--as-pid2", "--console=pipe", "--", end}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := testInstance()
			if tt.change != nil {
				tt.change(&i)
			}
			want := common
			for _, w := range tt.want {
				want = append(want[:len(want):len(want)], w...)
			}
			r := Record{Mark: "tekton/x/y", Instance: i}
			got := nspawnArgs(r, "/m/stage/root", tt.binds)
			for n := range got {
				got[n] = strings.ReplaceAll(got[n], machineID(r), "UUID")
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestMachineIDIsStableAndDistinct(t *testing.T) {
	a, b := Record{Mark: "tekton/x/1", Instance: testInstance()}, Record{Mark: "tekton/x/2", Instance: testInstance()}
	again := Record{Mark: a.Mark, Instance: testInstance()}
	if machineID(again) != machineID(a) || machineID(a) == machineID(b) || len(machineID(a)) != 36 || machineID(a)[14] != '4' {
		t.Errorf("ids %s and %s", machineID(a), machineID(b))
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*resource.Instance)
		words  string
	}{
		{"good", func(*resource.Instance) {}, ""},
		{"root volume", func(i *resource.Instance) {
			i.System = resource.System{StorePath: "/nix/store/a-b"}
			i.Volumes = []resource.Bind{{Source: "container.a.root", Target: "/"}}
		}, ""},
		{"no system", func(i *resource.Instance) { i.System = resource.System{} }, "exactly one"},
		{"two systems", func(i *resource.Instance) { i.System.RootFS = "/x" }, "exactly one"},
		{"host that boots", func(i *resource.Instance) { i.Command = nil }, ""},
		{"store path elsewhere", func(i *resource.Instance) { i.System = resource.System{StorePath: "/nix/store/../x"} }, "is not /nix/store/NAME"},
		{"root volume on host", func(i *resource.Instance) { i.Volumes = []resource.Bind{{Source: "a.b.c", Target: "/"}} }, "root volume of a storePath only"},
		{"proc", func(i *resource.Instance) { i.Volumes = []resource.Bind{{Source: "a.b.c", Target: "/proc/sys"}} }, "inside /proc"},
		{"first process", func(i *resource.Instance) { i.Mounts = []resource.Bind{{Source: "/x", Target: "/run/tekton/init"}} }, "inside /run/tekton"},
		{"run", func(i *resource.Instance) { i.Mounts = []resource.Bind{{Source: "/x", Target: "/run"}} }, "hide the first process"},
		{"dots", func(i *resource.Instance) { i.Mounts = []resource.Bind{{Source: "/x", Target: "/a/../b"}} }, "clean absolute path"},
		{"relative source", func(i *resource.Instance) { i.Mounts = []resource.Bind{{Source: "x", Target: "/b"}} }, "must be absolute"},
		{"environment", func(i *resource.Instance) { i.Environment = []string{"=x"} }, "NAME=VALUE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := testInstance()
			tt.change(&i)
			err := Validate(i)
			if (err == nil) != (tt.words == "") || !strings.Contains(fmt.Sprint(err), tt.words) {
				t.Errorf("error %v, want %q", err, tt.words)
			}
		})
	}
}

func TestVolumePath(t *testing.T) {
	if got, err := VolumePath("/v", "container.web..root"); got != "/v/container/web/.root" || err != nil {
		t.Errorf("a root: %s, %v", got, err)
	}
	if got, err := VolumePath("/v", "container.web.data"); got != "/v/container/web/data" || err != nil {
		t.Errorf("%s %v", got, err)
	}
	if got, err := VolumePath("/v", "container.web..root"); got != "/v/container/web/.root" || err != nil {
		t.Errorf("the kept root of a storePath: %s %v", got, err)
	}
	for _, bad := range []string{"", "a.b", "a.b.c.d", "a.b..", "a.b...", "a.b...c", "a..c", "a.b/../../x.c"} {
		if got, err := VolumePath("/v", bad); err == nil {
			t.Errorf("%q became %s", bad, got)
		}
	}
}

func TestSecretVariable(t *testing.T) {
	for _, tt := range []struct{ format, value, want string }{
		{"", "plain value\n", "K=plain value"},
		{"", "two\nlines\n", "K=two\nlines"},
		{"postgresql://r:%s@h/d", "p@ss:/w%rd ü\n", "K=postgresql://r:p%40ss%3A%2Fw%25rd%20%C3%BC@h/d"},
	} {
		got, err := SecretVariable(resource.Secret{Env: "K", Format: tt.format}, tt.value)
		if got != tt.want || err != nil {
			t.Errorf("%q: %q %v, want %q", tt.value, got, err, tt.want)
		}
	}
	if _, err := SecretVariable(resource.Secret{Env: "K"}, "a\x00b"); err == nil || strings.Contains(err.Error(), "a\x00b") {
		t.Errorf("NUL: %v", err)
	}
}

func TestReadSecretRefusesWhatIsNoPlainFile(t *testing.T) {
	dir := t.TempDir()
	for name, make := range map[string]func(path string) error{
		"missing":   func(string) error { return nil },
		"link":      func(p string) error { return os.Symlink("/etc/passwd", p) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"large":     func(p string) error { return os.WriteFile(p, make1(maxSecret+1), 0o600) },
	} {
		path := filepath.Join(dir, name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadSecret(path); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

func make1(n int) []byte { return make([]byte, n) }

func TestSystemAccounts(t *testing.T) {
	dir := t.TempDir()
	passwd, group := filepath.Join(dir, "passwd"), filepath.Join(dir, "group")
	os.WriteFile(passwd, []byte("root:$6$hash:0:0:root:/root:/bin/bash\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\nwww:x:33:33::/var/www:/bin/false\nnobody:x:65534:65534::/:/bin/false\n# comment\n"), 0o644)
	os.WriteFile(group, []byte("root:x:0:\nwww:x:33:alice\nusers:x:1001:alice\n"), 0o644)
	want := "root:x:0:0:root:/root:/bin/bash\nwww:x:33:33::/var/www:/bin/false\nnobody:x:65534:65534::/:/bin/false\n"
	if diff := cmp.Diff(want, systemAccounts(passwd, 7)); diff != "" {
		t.Errorf("passwd -want +got:\n%s", diff)
	}
	if diff := cmp.Diff("root:x:0:\nwww:x:33:\n", systemAccounts(group, 4)); diff != "" {
		t.Errorf("group -want +got:\n%s", diff)
	}
	if got := systemAccounts(filepath.Join(dir, "none"), 7); got != "root:x:0:0:root:/root:/bin/sh\n" {
		t.Errorf("without a file: %q", got)
	}
}

func TestReadRecord(t *testing.T) {
	dir := t.TempDir()
	for content, words := range map[string]string{`{`: "decode", `{"version":9}`: "version 9"} {
		os.WriteFile(filepath.Join(dir, RecordFile), []byte(content), 0o600)
		if _, err := ReadRecord(dir); !strings.Contains(fmt.Sprint(err), words) {
			t.Errorf("%s: %v", content, err)
		}
	}
}
