package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tekton.host/test/systemdhost"
)

// nixosContainerEnv names NixOS's program nixos-container, as it is in nixpkgs
// (nixos-container.pl, with its @placeholders@). It is not ours to keep here.
const nixosContainerEnv = "NIXOS_CONTAINER"

const nixosContainerProgram = systemdhost.ProgramsDir + "/nixos-container.pl"

// slurp is the little that the program needs of File::Slurp, which a small
// Debian does not have.
const slurp = `package File::Slurp;
use parent 'Exporter';
our @EXPORT = qw(read_file write_file);
sub read_file { open(my $f, '<', $_[0]) or return undef; local $/; return <$f>; }
sub write_file { die "this test writes nothing"; }
1;
`

// TestNixOSContainerProgram: the program that NixOS's users have in their
// fingers understands containers of ours. Without it, what it is known to look
// for in the files is asserted alone.
func TestNixOSContainerProgram(t *testing.T) {
	if !systemdhost.Inside() {
		return
	}
	t.Parallel()
	k := nixos(t)
	k.write("web.yaml", k.box("web", k.system(1, ""), "routes: [{host: web.test, port: 8080}]"))
	k.ready("web")
	name, address := k.instance+"-web", k.get("web").Status.Address
	// list: a glob; create: which addresses are taken; update: whose flake it is.
	if first, _ := readConf(t, "/etc/nixos-containers/"+name+".conf", "LOCAL_ADDRESS"); first != address {
		t.Errorf("show-ip will print %q, the address is %s", first, address)
	}
	if first, _ := readConf(t, "/etc/nixos-containers/"+name+".conf", "FLAKE"); first != "" {
		t.Errorf("update will build the flake %q", first)
	}
	if leader := k.containerLeader("web"); leader == "" {
		t.Error("machined does not know the container: run and root-login will not find it")
	}
	program, err := os.ReadFile(nixosContainerProgram)
	if os.IsNotExist(err) {
		t.Logf("the program itself was not driven: set %s=FILE (nixpkgs: pkgs/by-name/ni/nixos-container/nixos-container.pl)", nixosContainerEnv)
		return
	}
	k.check(err)
	run := k.program(string(program))
	for _, c := range []struct{ want, args string }{
		{"(?m)^" + name + "$", "list"},
		{"^up$", "status " + name},
		{"^" + regexp.QuoteMeta(address) + "$", "show-ip " + name},
		{"^su in web: root -l -c exec 'printf' 'it'.''s'$", "run " + name + " -- printf it's"},
		{"^su in web: root -l$", "root-login " + name},
	} {
		if out, err := run(strings.Fields(c.args)...); err != nil || !regexp.MustCompile(c.want).MatchString(out) {
			t.Errorf("nixos-container %s: %q %v, want %s", c.args, out, err, c.want)
		}
	}
	// By hand it is stopped and started while no daemon is there to interfere.
	k.must("apply", "-f", k.specs("web.yaml")) // known, before the daemon goes
	k.signal(15)
	if out, err := run("stop", name); err != nil {
		t.Errorf("stop: %q %v", out, err)
	}
	if out, err := run("status", name); err != nil || out != "down" {
		t.Errorf("status: %q %v", out, err)
	}
	if out, err := run("start", name); err != nil {
		t.Errorf("start: %q %v", out, err)
	}
	if out, err := run("status", name); err != nil || out != "up" {
		t.Errorf("status: %q %v", out, err)
	}
	k.up()
	k.ready("web")
	k.mustServe("web.test")
}

// program prepares nixos-container, as NixOS's build does.
func (k *tekton) program(text string) func(args ...string) (string, error) {
	k.t.Helper()
	for placeholder, value := range map[string]string{
		"@perl@": "/usr", "@utillinux@": "/usr", "@su@": "/nix/store/" + k.instance + "-1/bin/su",
		"@configurationDirectory@": "/etc/nixos-containers", "@stateDirectory@": "/var/lib/nixos-containers",
	} {
		text = strings.ReplaceAll(text, placeholder, value)
	}
	k.check(os.MkdirAll(k.path("perl/File"), 0o755))
	k.check(os.WriteFile(k.path("perl/File/Slurp.pm"), []byte(slurp), 0o644))
	k.check(os.WriteFile(k.path("nixos-container"), []byte(text), 0o755))
	return func(args ...string) (string, error) {
		cmd := exec.Command("perl", append([]string{"-I", k.path("perl"), k.path("nixos-container")}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s: %w", filepath.Base(cmd.Path), err)
		}
		return strings.TrimSpace(string(out)), err
	}
}
