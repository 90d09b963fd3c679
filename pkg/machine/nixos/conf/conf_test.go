package conf_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/machine/nixos/conf"
)

// full has every key.
var full = conf.Conf{
	Mark: "tekton/0123456789ab/0011", Label: "web-1", SystemPath: "/nix/store/abc-nixos-system", Flake: "git+file:///srv/web",
	PrivateNetwork: true, HostAddress: "10.90.0.2", HostAddress6: "fd00::1", LocalAddress: "10.90.0.3", LocalAddress6: "fd00::2/128",
	LocalMACAddress: "02:74:0a:5a:00:03", HostBridge: "br0", HostPort: []string{"tcp:8080:80", "udp:53:53"}, NamespacePath: "/run/netns/x",
	Interfaces: []string{"eth1", "eth2"}, MACVLANs: []string{"eth3"}, PrivateUsers: "655360", AutoStart: true, CopyResolvConf: true,
	ExtraFlags: []string{"--bind-ro=/srv/a:/a", "--capability=CAP_NET_ADMIN"},
}

// managed is a file as tekton writes them.
var managed = conf.Conf{
	Mark: "tekton/0123456789ab/0011", Label: "web-1", PrivateNetwork: true,
	ShownHostAddress: "10.90.0.2", ShownAddress: "10.90.0.3", PrivateUsers: "655360",
	ExtraFlags: []string{"--private-users-ownership=map", "--inaccessible=/nix/var/nix/daemon-socket"},
}

func render(t *testing.T, c conf.Conf) string {
	t.Helper()
	text, err := c.Render()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestRoundTrip(t *testing.T) {
	for _, want := range []conf.Conf{{}, full, managed} {
		got, err := conf.Parse(render(t, want))
		if err != nil {
			t.Fatal(err)
		}
		want.ShownAddress, want.ShownHostAddress = "", ""
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

// TestReaders: a shell, as older units used one, and the patterns of the
// program nixos-container read what is meant.
func TestReaders(t *testing.T) {
	text := render(t, managed)
	out, err := exec.Command("sh", "-euc", text+`printf '%s|' "$HOST_ADDRESS" "$LOCAL_ADDRESS" "$PRIVATE_NETWORK" "$AUTO_START" "$PRIVATE_USERS" "$EXTRA_NSPAWN_FLAGS"`).Output()
	if want := "||1|0|655360|" + strings.Join(managed.ExtraFlags, " ") + "|"; err != nil || string(out) != want {
		t.Errorf("a shell reads %q (%v), want %q", out, err, want)
	}
	for pattern, want := range map[string]string{
		`(?m)^LOCAL_ADDRESS=([0-9\.]+)(/[0-9]+)?$`: "10.90.0.3", // show-ip
		`(?m)^HOST_ADDRESS=([0-9\.]+)$`:            "10.90.0.2", // addresses that create leaves alone
	} {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(text); len(m) < 2 || m[1] != want {
			t.Errorf("%s finds %q, want %s", pattern, m, want)
		}
	}
	if regexp.MustCompile(`(?m)^FLAKE=`).MatchString(text) {
		t.Error("without a flake nixos-container update must not find one")
	}
}

// TestParse reads files as NixOS and people write them.
func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want conf.Conf
	}{
		"of the program": {
			"PRIVATE_NETWORK=1\nHOST_ADDRESS=10.233.1.1\nLOCAL_ADDRESS=10.233.1.2\nHOST_BRIDGE=\nHOST_PORT=\nAUTO_START=0\n",
			conf.Conf{PrivateNetwork: true, HostAddress: "10.233.1.1", LocalAddress: "10.233.1.2"},
		},
		"of the module": {
			"SYSTEM_PATH=/nix/store/x\n\nCOPY_RESOLV_CONF=0\nPRIVATE_NETWORK=1\nHOST_PORT=tcp:80:8080\n\nPRIVATE_USERS=no\nINTERFACES=\"\"\nMACVLANS=\"a b\"\nAUTO_START=1\n\n" +
				"EXTRA_NSPAWN_FLAGS=\" --bind-ro=/home/alice:/home --drop-capability=CAP_SYS_CHROOT\"\n",
			conf.Conf{
				SystemPath: "/nix/store/x", PrivateNetwork: true, HostPort: []string{"tcp:80:8080"}, PrivateUsers: "no", MACVLANs: []string{"a", "b"},
				AutoStart: true, ExtraFlags: []string{"--bind-ro=/home/alice:/home", "--drop-capability=CAP_SYS_CHROOT"},
			},
		},
		"by hand": {
			"; a comment\n  # another\nnonsense\nFLAKE='/srv/a b'   \nEXTRA_NSPAWN_FLAGS=\"--a \\\n--b\"\nHOST_BRIDGE = br0 \nMINE=1\nSYSTEM_PATH=\"/nix/a\\$b\"\n",
			conf.Conf{Flake: "/srv/a b", ExtraFlags: []string{"--a", "--b"}, HostBridge: "br0", SystemPath: "/nix/a$b", Unknown: []string{"MINE"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := conf.Parse(c.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	if _, err := conf.Parse("FLAKE=\"x\n"); err == nil {
		t.Error("a quote without an end was taken")
	}
}

// TestRefused: what the unit would split or expand is not written.
func TestRefused(t *testing.T) {
	for _, flag := range []string{"--bind=/a b:/c", "--bind=/a*:/c", "--bind=/$HOME:/c", "--x=`id`", "--x=a\nAUTO_START=1", `--x="`, ""} {
		c := managed
		c.ExtraFlags = []string{flag}
		if text, err := c.Render(); err == nil {
			t.Errorf("flag %q was written:\n%s", flag, text)
		}
	}
	for _, c := range []conf.Conf{{SystemPath: "/nix/store/a b"}, {Mark: "tekton/a/b\nX=1"}, {Mark: "m", Label: "a\nX=1"}, {HostPort: []string{"1,2"}}} {
		if text, err := c.Render(); err == nil {
			t.Errorf("written:\n%s", text)
		}
	}
}

// FuzzParse: what is read can be written again and says the same, or is refused.
func FuzzParse(f *testing.F) {
	text, _ := full.Render()
	f.Add(text)
	f.Add("A='b\nc' d\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := conf.Parse(text)
		if err != nil {
			return
		}
		c.Unknown = nil
		rendered, err := c.Render()
		if err != nil {
			return
		}
		again, err := conf.Parse(rendered)
		if err != nil {
			t.Fatalf("%v:\n%s", err, rendered)
		}
		if diff := cmp.Diff(c, again); diff != "" {
			t.Errorf("-first +again:\n%s\n%s", diff, rendered)
		}
	})
}
