package compile

import (
	"strings"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

// nixos is a container of NixOS with a system.
func nixos(system string) func(*v1alpha1.ContainerSpec) {
	return func(s *v1alpha1.ContainerSpec) {
		*s = v1alpha1.ContainerSpec{Runtime: v1alpha1.RuntimeNixOSContainer, System: v1alpha1.System{StorePath: "/nix/store/" + system}}
	}
}

func (w *world) target(t *testing.T, out Output, name string) Incarnation {
	t.Helper()
	for _, o := range out.Objects {
		if o.Record.Name == name && o.Target != nil {
			return *o.Target
		}
	}
	t.Fatalf("%s has no target", name)
	return Incarnation{}
}

// TestContainerNames: short, unique, and kept once they are chosen.
func TestContainerNames(t *testing.T) {
	w := newWorld("10.99.0.0/16")
	names := []string{"web", "web-of-a-shop", "web-of-a-shed", "elevenchars", "twelve-chars"}
	for _, n := range names {
		w.want(n, nixos("a"))
	}
	out := w.settle()
	seen := map[string]string{}
	for _, n := range names {
		c := w.target(t, out, n).Container
		if by, taken := seen[c]; taken || len(c) == 0 || len(c) > 11 || len(n) <= 11 && c != n || !strings.HasPrefix(c, n[:3]) {
			t.Errorf("%s is container %q (%s)", n, c, by)
		}
		seen[c] = n
	}
	w.in.Naming.Instance = "x" // what was chosen stays
	if c := w.target(t, w.settle(), "web").Container; c != "web" {
		t.Errorf("web became %q", c)
	}
	w.want("late", nixos("a"))
	if c := w.target(t, w.settle(), "late").Container; c != "x-late" {
		t.Errorf("with an instance: %q", c)
	}
}

// TestContainerUpdatesInPlace: the same machine, slot and name; what did not
// answer is taken back, also after the failure itself is forgotten.
func TestContainerUpdatesInPlace(t *testing.T) {
	w := newWorld("10.99.0.0/16")
	w.want("web", nixos("one"))
	first := w.target(t, w.settle(), "web")
	w.want("web", nixos("two"))
	out := Compile(w.in)
	second := w.target(t, out, "web")
	if second.Machine != first.Machine || second.Slot != first.Slot || second.Container != first.Container || second.Fingerprint == first.Fingerprint {
		t.Errorf("%+v became %+v", first, second)
	}
	if out.Objects[0].Update != StrategyInPlace || second.Previous == nil || second.Previous.Fingerprint != first.Fingerprint {
		t.Errorf("under way: %q %+v", out.Objects[0].Update, second.Previous)
	}
	unit := out.Desired.Present[resource.ID{Kind: resource.KindUnit, Name: first.Machine}].Value.(resource.Unit)
	if unit.Fingerprint != second.Fingerprint || !unit.Running {
		t.Errorf("unit: %+v", unit)
	}
	out = w.settle()
	if p := w.target(t, out, "web").Previous; p != nil || out.Objects[0].Update != "" {
		t.Errorf("after the answer: %+v, update %q", p, out.Objects[0].Update)
	}

	w.want("web", nixos("broken"))
	w.adopt(Compile(w.in)) // claimed
	w.in.Failures[resource.ID{Kind: resource.KindAnswer, Name: first.Machine}] = resource.Failure{Reason: resource.ReasonProbeFailed, Message: "no answer"}
	w.in.Objects[0].NoWayBack = true
	if i := w.target(t, Compile(w.in), "web"); i.Fingerprint == second.Fingerprint {
		t.Error("taken back to what its source may not have any more")
	}
	w.in.Objects[0].NoWayBack = false
	w.adopt(Compile(w.in)) // its failure, too
	clear(w.in.Failures)
	out = w.settle()
	back := w.target(t, out, "web")
	if back.Fingerprint != second.Fingerprint || back.Previous != nil || back.Machine != first.Machine {
		t.Errorf("taken back to %+v, want the fingerprint %s", back, second.Fingerprint)
	}
	instance := out.Desired.Present[resource.ID{Kind: resource.KindInstance, Name: first.Machine}].Value.(resource.Instance)
	if instance.System.StorePath != "/nix/store/two" {
		t.Errorf("its system is %s", instance.System.StorePath)
	}
	// The next change comes while the ends of the broken one still count, and the
	// machine stops for it: they are not its own.
	w.want("web", nixos("three"))
	w.adopt(Compile(w.in))
	stopped := resource.Unit{Name: first.Machine, Fingerprint: second.Fingerprint, Failures: failuresBeforeRollback}
	w.in.Observed[resource.KindUnit] = resource.Known(resource.New("uid-web", first.Machine, first.Machine, stopped))
	if i := w.target(t, Compile(w.in), "web"); i.Fingerprint == second.Fingerprint {
		t.Error("taken back before it was started")
	}
	if i := w.target(t, w.settle(), "web"); i.Previous != nil || i.Fingerprint == second.Fingerprint {
		t.Errorf("the next change: %+v", i)
	}
}

// TestContainerOfAFlake: what its flake was built to is part of what it is
// taken back to, also when the build itself is forgotten.
func TestContainerOfAFlake(t *testing.T) {
	w := newWorld("10.99.0.0/16")
	build := func(flake, path string) {
		w.want("web", func(s *v1alpha1.ContainerSpec) {
			*s = v1alpha1.ContainerSpec{Runtime: v1alpha1.RuntimeNixOSContainer, System: v1alpha1.System{Flake: flake}}
		})
		name := resource.ClosureName(flake, false)
		w.in.Observed[resource.KindClosure] = resource.Known(resource.New(resource.HostOwner, "", name,
			resource.Closure{Flake: flake, Attempt: 1, Build: resource.Build{Result: resource.Built{StorePath: path}}}))
	}
	build("path:/srv/a#one", "/nix/store/one")
	first := w.target(t, w.settle(), "web")
	if first.Container != "web" || first.StorePath != "/nix/store/one" {
		t.Fatalf("%+v", first)
	}
	build("path:/srv/a#two", "/nix/store/two")
	out := Compile(w.in)
	if i := w.target(t, out, "web"); i.Machine != first.Machine || i.StorePath != "/nix/store/two" || i.Previous == nil || i.Previous.StorePath != "/nix/store/one" {
		t.Errorf("updated to %+v, before that %+v", i, i.Previous)
	}
	w.adopt(out)
	w.in.Failures[resource.ID{Kind: resource.KindAnswer, Name: first.Machine}] = resource.Failure{Reason: resource.ReasonProbeFailed, Message: "no answer"}
	out = Compile(w.in)
	if i := w.target(t, out, "web"); i.Flake != first.Flake || i.StorePath != first.StorePath || i.Fingerprint != first.Fingerprint {
		t.Errorf("taken back to %+v, want %+v", i, first)
	}
	instance := out.Desired.Present[resource.ID{Kind: resource.KindInstance, Name: first.Machine}].Value.(resource.Instance)
	if instance.System.StorePath != "/nix/store/one" {
		t.Errorf("its system is %s", instance.System.StorePath)
	}
}

// TestContainerKeepsDataOfBefore: what a system used that may come back stays.
func TestContainerKeepsDataOfBefore(t *testing.T) {
	w := newWorld("10.99.0.0/16")
	withVolume := func(s *v1alpha1.ContainerSpec) {
		nixos("one")(s)
		s.Volumes = []v1alpha1.Volume{{Name: "data", Path: "/data", DeletionPolicy: "Delete"}}
	}
	w.want("web", withVolume)
	w.settle()
	w.want("web", nixos("two"))
	id := resource.ID{Kind: resource.KindVolume, Name: "container.web.data"}
	if _, wanted := Compile(w.in).Desired.Present[id]; !wanted {
		t.Error("the volume goes before the update has answered")
	}
	if _, wanted := w.settle().Desired.Present[id]; wanted {
		t.Error("the volume stays for good")
	}
}

// TestRuntimeIsImmutable: nothing happens to the machine, and the object says why.
func TestRuntimeIsImmutable(t *testing.T) {
	w := newWorld("10.99.0.0/16")
	w.want("web", func(s *v1alpha1.ContainerSpec) {
		s.System, s.Command = v1alpha1.System{StorePath: "/nix/store/one"}, nil
	})
	w.settle()
	w.want("web", nixos("one"))
	out := Compile(w.in)
	if out.Desired.Complete["uid-web"] {
		t.Error("the object was compiled whole: its machine may be removed")
	}
	if len(out.Objects[0].Notes) != 1 || out.Objects[0].Notes[0].Reason != "Immutable" {
		t.Errorf("notes: %+v", out.Objects[0].Notes)
	}
}
