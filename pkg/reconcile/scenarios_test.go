package reconcile

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/simworld"
	"tekton.host/pkg/resource"
)

func web(name string) v1alpha1.Container {
	return v1alpha1.Container{
		TypeMeta: v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindContainer},
		Metadata: v1alpha1.ObjectMeta{Name: name},
		Spec: v1alpha1.ContainerSpec{
			System: v1alpha1.System{Host: true}, Command: []string{"/usr/bin/serve", "1"},
			Routes: []v1alpha1.Route{{Host: name + ".example.org", Path: "/", Port: 8080, TLS: "off"}},
		},
	}
}

func withData(c v1alpha1.Container, policy string) v1alpha1.Container {
	c.Spec.Volumes = []v1alpha1.Volume{{Name: "data", Path: "/data", DeletionPolicy: policy}}
	c.Spec.Databases = []v1alpha1.Database{{Name: "main", DeletionPolicy: policy}}
	return c
}

func command(c v1alpha1.Container, args ...string) v1alpha1.Container {
	c.Spec.Command = append([]string{"/usr/bin/serve"}, args...)
	return c
}

func disabled(c v1alpha1.Container) v1alpha1.Container {
	c.Spec.Enabled = new(false)
	return c
}

func linked(c v1alpha1.Container, to string) v1alpha1.Container {
	c.Spec.Network.Links = []v1alpha1.NetworkLink{{To: to, Port: 8080}}
	return c
}

func withSecret(c v1alpha1.Container, name string) v1alpha1.Container {
	c.Spec.Credentials = []v1alpha1.Credential{{Name: name, Env: "TOKEN"}}
	return c
}

func routed(c v1alpha1.Container, host string) v1alpha1.Container {
	c.Spec.Routes = append(slices.Clone(c.Spec.Routes), v1alpha1.Route{Host: host, Path: "/", Port: 8080, TLS: "off"})
	return c
}

func withPort(c v1alpha1.Container, hostIP string) v1alpha1.Container {
	c.Spec.Network.Ports = []v1alpha1.Port{{HostPort: 25, Port: 25, HostIP: hostIP, Protocol: "tcp"}}
	return c
}

// nixos is a container of NixOS with a system.
func nixos(system string) v1alpha1.Container {
	c := web("a")
	c.Spec.Command, c.Spec.Runtime, c.Spec.System = nil, v1alpha1.RuntimeNixOSContainer, v1alpha1.System{StorePath: "/nix/store/" + system}
	return c
}

func TestOneFileComesAndGoes(t *testing.T) {
	s := newSim(t)
	before := s.world.Snapshot()
	s.put("web.yaml", web("web"))
	s.settle()
	s.wantPhase("web", v1alpha1.PhaseReady)
	s.quiet()
	s.delete("web.yaml")
	s.settle()
	s.world.Now = s.world.Now.Add(time.Hour) // the slot has cooled down
	s.settle()
	if d := cmp.Diff(before, s.world.Snapshot()); d != "" {
		t.Errorf("the host is not as before (-want +got):\n%s", d)
	}
	if len(s.last.Items) != 0 {
		t.Errorf("items left: %v", s.last.Items)
	}
}

// scenario is a history of changes; each is followed by settling. The first
// object is a; others that take part from the start are b, c.
type scenario struct {
	name    string
	changes []func(*sim)
	// racy: something changes in the middle of another change, so that numbers
	// depend on how far that had come.
	racy bool
}

func put(c v1alpha1.Container) func(*sim) {
	return func(s *sim) { s.put(c.Metadata.Name+".yaml", c) }
}

func remove(name string) func(*sim) { return func(s *sim) { s.delete(name + ".yaml") } }

func both(fs ...func(*sim)) func(*sim) {
	return func(s *sim) {
		for _, f := range fs {
			f(s)
		}
	}
}

// after lets something happen when n more steps have landed.
func after(n int, do func(*sim)) func(*sim) {
	return func(s *sim) { s.later = append(s.later, laterEvent{s.landed + n, do}) }
}

func image(word string, i simworld.Image) func(*sim) {
	return func(s *sim) { s.world.Images[word] = i }
}

// flaky runs the init of what a flake builds to.
func flaky(c v1alpha1.Container, flake string) v1alpha1.Container {
	c.Spec.System, c.Spec.Command = v1alpha1.System{Flake: flake}, nil
	return c
}

// cloning has a volume that is made of a repository.
func cloning(c v1alpha1.Container, url string) v1alpha1.Container {
	c.Spec.Volumes = append(slices.Clone(c.Spec.Volumes), v1alpha1.Volume{
		Name: "src", Path: "/src", DeletionPolicy: "Delete", Repository: &v1alpha1.VolumeRepository{URL: url, Ref: "main"},
	})
	return c
}

func pushed(url, commit string) func(*sim) {
	return func(s *sim) { s.world.Repositories[url] = commit }
}

func builds(flake, to string) func(*sim) { return func(s *sim) { s.world.Flakes[flake] = to } }

func secret(name, value string) func(*sim) { return func(s *sim) { s.secrets[name] = value } }

func scenarios() []scenario {
	a, data := web("a"), func(policy string) v1alpha1.Container { return withData(web("a"), policy) }
	return []scenario{
		{"create", []func(*sim){put(a)}, false},
		{"create with data", []func(*sim){put(data("Delete"))}, false},
		// A build ends when it ends: what comes meanwhile takes other slots.
		{"create from a flake", []func(*sim){put(flaky(a, "path:/srv/a#one"))}, true},
		{"flake update", []func(*sim){put(flaky(a, "path:/srv/a#one")), put(flaky(a, "path:/srv/a#two"))}, true},
		{"flake update that fails, then is taken back", []func(*sim){
			both(put(flaky(a, "path:/srv/a#one")), builds("path:/srv/a#bad", "")), put(flaky(a, "path:/srv/a#bad")), put(flaky(a, "path:/srv/a#one"))}, true},
		{"flake shared by two", []func(*sim){both(put(flaky(a, "path:/srv/a#one")), put(flaky(web("b"), "path:/srv/a#one"))), remove("a")}, true},
		{"hot update", []func(*sim){put(a), put(routed(a, "b.example.org"))}, false},
		{"overlap update", []func(*sim){put(a), put(command(a, "2"))}, false},
		{"recreate update", []func(*sim){put(data("Retain")), put(command(data("Retain"), "2"))}, false},
		{"overlap update that never answers", []func(*sim){both(put(a), image("2", simworld.Mute)), put(command(a, "2"))}, false},
		{"overlap update that crashes", []func(*sim){both(put(a), image("2", simworld.Crashes)), put(command(a, "2"))}, false},
		{"recreate update that never answers", []func(*sim){both(put(data("Retain")), image("2", simworld.Mute)), put(command(data("Retain"), "2"))}, false},
		{"failed update, then repaired", []func(*sim){both(put(a), image("2", simworld.Mute)), put(command(a, "2")), put(command(a, "3"))}, false},
		{"database added and dropped", []func(*sim){put(a), put(data("Delete")), put(a)}, false},
		{"delete", []func(*sim){put(a), remove("a")}, false},
		{"delete with data", []func(*sim){put(data("Delete")), remove("a")}, false},
		{"delete with retained data", []func(*sim){put(data("Retain")), remove("a")}, false},
		{"retained data adopted", []func(*sim){put(data("Retain")), remove("a"), put(data("Retain"))}, false},
		{"deleted and wanted again meanwhile", []func(*sim){put(data("Delete")), both(remove("a"), after(3, put(data("Delete"))))}, true},
		{"changed again meanwhile", []func(*sim){put(a), both(put(command(a, "2")), after(5, put(command(a, "3"))))}, true},
		{"taken back meanwhile", []func(*sim){put(data("Retain")), both(put(command(data("Retain"), "2")), after(6, put(data("Retain"))))}, true},
		{"deleted while it is made", []func(*sim){both(put(data("Delete")), after(9, remove("a")))}, true},
		{"renamed file", []func(*sim){put(data("Delete")), func(s *sim) { s.rename("a.yaml", "b.yaml") }}, false},
		{"renamed file with a change", []func(*sim){put(a), both(remove("a"), func(s *sim) { s.put("b.yaml", command(a, "2")) })}, false},
		{"two objects, one goes", []func(*sim){both(put(a), put(withData(web("b"), "Delete"))), remove("b")}, false},
		{"link between two", []func(*sim){both(put(linked(a, "b")), put(web("b"))), put(command(web("b"), "2"))}, false},
		{"link's target goes", []func(*sim){both(put(linked(a, "b")), put(web("b"))), remove("b")}, false},
		{"route changes hands", []func(*sim){both(put(routed(a, "x.example.org")), put(web("b"))), both(put(a), put(routed(web("b"), "x.example.org")))}, false},
		{"disabled and enabled", []func(*sim){put(a), put(disabled(a)), put(a)}, false},
		{"container updated in place", []func(*sim){put(nixos("1")), put(nixos("2"))}, false},
		{"container's update that never answers", []func(*sim){both(put(nixos("1")), image("2", simworld.Mute)), put(nixos("2"))}, false},
		{"container's update that crashes", []func(*sim){both(put(nixos("1")), image("2", simworld.Crashes)), put(nixos("2"))}, false},
		{"container's failed update, then repaired", []func(*sim){both(put(nixos("1")), image("2", simworld.Mute)), put(nixos("2")), put(nixos("3"))}, false},
		{"container of a flake, updated in place", []func(*sim){put(flaky(nixos(""), "path:/srv/a#1")), put(flaky(nixos(""), "path:/srv/a#2"))}, true},
		{"container of a flake, its update never answers", []func(*sim){
			both(put(flaky(nixos(""), "path:/srv/a#1")), builds("path:/srv/a#2", "/nix/store/2"), image("2", simworld.Mute)), put(flaky(nixos(""), "path:/srv/a#2"))}, true},
		{"container deleted", []func(*sim){put(nixos("1")), remove("a")}, false},
		// A setup ends when it ends, as a build does.
		{"set up for two revisions", []func(*sim){put(setUp(a, "r1")), put(setUp(a, "r2"))}, true},
		{"setup that fails, then is repaired", []func(*sim){
			both(put(setUp(a, "r1")), setupFails("bad", "SetupFailed")), put(setUp(a, "bad")), put(setUp(a, "r3"))}, true},
		{"replacement whose setup fails", []func(*sim){
			both(put(setUp(a, "r1")), setupFails("bad", resource.ReasonSetupTimeout)), put(setUp(command(a, "2"), "bad")), put(setUp(command(a, "2"), "r3"))}, true},
		{"set up and deleted", []func(*sim){put(setUp(data("Delete"), "r1")), remove("a")}, true},
		{"secret rotates", []func(*sim){both(secret("token", "canary-0cf3"), put(withSecret(a, "token"))), secret("token", "canary-77ab")}, false},
		{"create from a repository", []func(*sim){put(cloning(a, forge))}, true},
		{"repository added, then deleted", []func(*sim){put(a), put(cloning(a, forge)), remove("a")}, true},
		{"repository that cannot be fetched, then is not wanted", []func(*sim){both(put(cloning(a, forge)), pushed(forge, "")), put(a)}, true},
		{"repository shared by two, one goes", []func(*sim){both(put(cloning(a, forge)), put(cloning(web("b"), forge))), remove("a")}, true},
		{"database seeded once, dumped before each revision", []func(*sim){
			put(setUp(data("Delete"), "r1", seeded)), put(setUp(data("Delete"), "r2", seeded)), put(setUp(command(data("Delete"), "2"), "r3", seeded))}, true},
		// What previews are given, said by somebody else.
		{"preview whose Repository changes, disappears, comes back otherwise and goes before it", []func(*sim){
			both(serving("c1"), secret("key", "canary-1"), describes(granting("one")), shows("a", nil)), describes(granting("two")),
			undescribed, describes(retaining), both(undescribed, remove("a"))}, true},
		{"falls asleep and is woken", []func(*sim){put(sleepy(data("Delete"))), idle("a"), request("a")}, false},
		{"woken while it falls asleep", []func(*sim){put(sleepy(a)), both(idle("a"), after(2, request("a")))}, true},
		{"changed while it sleeps, then woken", []func(*sim){put(sleepy(data("Retain"))), idle("a"), put(command(sleepy(data("Retain")), "2")), request("a")}, false},
		{"deleted while it sleeps", []func(*sim){put(sleepy(data("Delete"))), idle("a"), remove("a")}, false},
		{"may sleep, then not any more", []func(*sim){put(a), put(sleepy(a)), idle("a"), put(a)}, false},
		{"set up for another revision while it sleeps", []func(*sim){put(sleepy(setUp(a, "r1"))), idle("a"), put(sleepy(setUp(a, "r2"))), request("a")}, true},
	}
}

// companion is a second object that does something of its own at the same time.
type companion struct {
	name          string
	before, while func(*sim)
}

const alone = "alone"

func companions() []companion {
	nothing := func(*sim) {}
	z := withData(web("z"), "Delete")
	return []companion{
		{alone, nothing, nothing},
		{"another is created", nothing, put(z)},
		{"another is updated", put(web("z")), put(command(web("z"), "2"))},
		{"another is recreated", put(z), put(command(z, "2"))},
		{"another is deleted", put(z), remove("z")},
	}
}
