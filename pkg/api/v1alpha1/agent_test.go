package v1alpha1

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const testKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKfUo1M8jy/vTqCLYpSTQKdlVhKVScr2jEQWOUmIFhUe me@laptop"

// fullAgent is a valid agent with one of everything that an untrusted object may have.
func fullAgent() *Agent {
	c := full().Spec
	return &Agent{
		Metadata: ObjectMeta{Name: "fix"},
		Spec: AgentSpec{
			System: System{Host: true}, User: "me", SSHKeys: []string{testKey}, Home: Home{SizeMax: &Quantity{Bytes: 1 << 30, text: "1G"}},
			Environment: c.Environment, Credentials: c.Credentials, Databases: c.Databases, Routes: c.Routes, Network: c.Network, Resources: c.Resources,
			TTL: &Duration{8 * time.Hour},
		},
	}
}

func TestAgentValidate(t *testing.T) {
	tests := map[string]struct {
		change func(a *Agent)
		want   []string // field: beginning of the detail
	}{
		"full":           {func(*Agent) {}, nil},
		"only a system":  {func(a *Agent) { a.Spec = AgentSpec{System: System{StorePath: "/nix/store/a-b"}} }, nil},
		"root":           {func(a *Agent) { a.Spec.User = "root" }, nil},
		"no system":      {func(a *Agent) { a.Spec.System = System{} }, []string{"spec.system: set exactly one"}},
		"user":           {func(a *Agent) { a.Spec.User = "../etc" }, []string{"spec.user: must be a name"}},
		"user id":        {func(a *Agent) { a.Spec.User = "1000" }, []string{"spec.user: must be a name"}},
		"key twice":      {func(a *Agent) { a.Spec.SSHKeys = append(a.Spec.SSHKeys, testKey) }, []string{"spec.sshKeys[1]: spec.sshKeys[0]"}},
		"no key":         {func(a *Agent) { a.Spec.SSHKeys[0] = "me@laptop" }, []string{"spec.sshKeys[0]: is not a public key"}},
		"broken key":     {func(a *Agent) { a.Spec.SSHKeys[0] = testKey[:40] }, []string{"spec.sshKeys[0]: is not a public key"}},
		"two lines":      {func(a *Agent) { a.Spec.SSHKeys[0] += "\n" + testKey }, []string{"spec.sshKeys[0]: holds a control character"}},
		"private key":    {func(a *Agent) { a.Spec.SSHKeys[0] = "-----BEGIN OPENSSH PRIVATE KEY-----\nx" }, []string{"spec.sshKeys[0]: is a private key"}},
		"small home":     {func(a *Agent) { a.Spec.Home.SizeMax.Bytes = 12 }, []string{"spec.home.sizeMax: is 12 bytes"}},
		"policy":         {func(a *Agent) { a.Spec.Home.DeletionPolicy = "delete" }, []string{"spec.home.deletionPolicy: must be one of"}},
		"ttl":            {func(a *Agent) { a.Spec.TTL.Duration = time.Second }, []string{"spec.ttl: must be at least 10s"}},
		"private range":  {func(a *Agent) { a.Spec.Network.Egress.Allow = []string{"10.1.2.0/24"} }, []string{"spec.network.egress.allow[0]: is not on the public internet"}},
		"link to itself": {func(a *Agent) { a.Spec.Network.Links[0].To = "fix" }, []string{"spec.network.links[0].to: is the object itself"}},
		"all at once": {func(a *Agent) {
			a.Spec.User, a.Spec.Credentials[0].Path, a.Spec.TTL.Duration = "A", "/etc/x", -1
		}, []string{"spec.credentials[0].path: must lie below /run", "spec.ttl: must be at least", "spec.user: must be a name"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := fullAgent()
			a.Default(nil)
			tt.change(a)
			a.Default(nil)
			got := lines(a.Validate(nil))
			if len(got) != len(tt.want) || !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			for _, line := range got {
				if strings.Contains(line, "PRIVATE KEY-----") {
					t.Errorf("%s repeats what may be secret", line)
				}
			}
		})
	}
}

func TestAgentDefaultIsIdempotent(t *testing.T) {
	for _, a := range []*Agent{agentSample(), fullAgent(), {}} {
		a.Default(nil)
		once := toJSON(t, a)
		a.Default(nil)
		if diff := cmp.Diff(once, toJSON(t, a)); diff != "" {
			t.Errorf("(-once +twice):\n%s", diff)
		}
	}
}

// TestAgentIsAValidContainer: what an agent is lowered to passes all that a
// Container has to, and is as defaulted.
func TestAgentIsAValidContainer(t *testing.T) {
	for name, system := range map[string]System{"host": {Host: true}, "rootfs": {RootFS: "/srv/root"}, "store path": {StorePath: "/nix/store/a-b"}, "flake": {Flake: "path:/srv/a#b"}} {
		a := fullAgent()
		a.Spec.System = system
		a.Default(nil)
		c := &Container{Metadata: a.Metadata, Spec: *a.Machine()}
		before := toJSON(t, c.Spec)
		c.Default(nil)
		if diff := cmp.Diff(before, toJSON(t, c.Spec)); diff != "" {
			t.Errorf("%s: a default is missing (-lowered +defaulted):\n%s", name, diff)
		}
		if errs := lines(c.Validate(nil)); len(errs) > 0 {
			t.Errorf("%s: %v", name, errs)
		}
		if why := c.Spec.NoOverlap(); why == "" {
			t.Errorf("%s: two machines could have the home at once", name)
		}
	}
}
