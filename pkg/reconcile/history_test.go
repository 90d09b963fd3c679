package reconcile

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/simworld"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/spec"
)

// TestRandomHistories lets anything happen in any order, then lets the faults
// end: every wanted object is Ready, nothing else is left, and it is quiet.
// TEKTON_TEST_HISTORIES says how many new histories instead of the usual ones; a failure replays with
// go test ./pkg/reconcile -run TestRandomHistories -rapid.seed=SEED, as printed.
func TestRandomHistories(t *testing.T) {
	checks := os.Getenv("TEKTON_TEST_HISTORIES")
	if checks == "" {
		checks = "2000"
		if seed := flag.Lookup("rapid.seed"); seed.Value.String() == "0" {
			defer flag.Set("rapid.seed", "0")
			// The same ones every time: a change is judged by what it changes. New ones
			// are for long runs.
			if err := flag.Set("rapid.seed", "20261122"); err != nil {
				t.Fatal(err)
			}
		}
	}
	defer flag.Set("rapid.checks", flag.Lookup("rapid.checks").Value.String())
	if err := flag.Set("rapid.checks", checks); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) { randomHistory(rt) })
}

func randomHistory(rt *rapid.T) {
	// Two slots, six, or plenty.
	subnet := rapid.SampledFrom([]string{"10.99.0.0/29", "10.99.0.0/28", "10.99.0.0/24"}).Draw(rt, "subnet")
	h := &history{sim: newSimIn(rt, subnet), rt: rt}
	h.rand = rand.NewPCG(rapid.Uint64().Draw(rt, "order"), 0)
	h.two = true // whose fault it was cannot be told
	for range rapid.IntRange(3, 14).Draw(rt, "events") {
		h.event()
		h.steps(rapid.IntRange(0, 25).Draw(rt, "steps"))
	}
	h.end()
}

type history struct {
	*sim
	rt *rapid.T
	// everBroken images may have been rolled back from.
	everBroken bool
}

var names = []string{"a", "b", "c", "d"}

// unknowable are kinds that an event makes Unknown.
var unknowable = []resource.Kind{
	resource.KindDatabase, resource.KindRole, resource.KindRoute, resource.KindUnit, resource.KindLink,
	resource.KindAnswer, resource.KindInstance, resource.KindVolume, resource.KindEndpoint, resource.KindTable,
	resource.KindGCRoot, resource.KindCheckout, resource.KindGate,
}

func (h *history) event() {
	name := rapid.SampledFrom(names).Draw(h.rt, "name")
	what := rapid.SampledFrom(slices.Sorted(maps.Keys(happenings))).Draw(h.rt, "event")
	h.note("--- "+what+" "+name, resource.Step{}, nil)
	happenings[what](h, name)
	h.ignorant(rapid.SampledFrom(singles[:len(singles)-len(claimSorts)]).Draw(h.rt, "unknown"), rapid.SampledFrom(pairsOfKinds).Draw(h.rt, "unknown pair"))
	h.secretFree()
}

// happenings are what the world does to a daemon.
var happenings = map[string]func(h *history, name string){
	"spec":         func(h *history, name string) { h.put(name+".yaml", h.variant(name)) },
	"another spec": func(h *history, name string) { h.put(name+".yaml", h.variant(name)) },
	"file removed": func(h *history, name string) { h.delete(name + ".yaml") },
	"file renamed": func(h *history, name string) {
		if _, found := h.files[name+".yaml"]; found {
			h.rename(name+".yaml", name+"-renamed.yaml")
		} else {
			h.delete(name + "-renamed.yaml")
		}
	},
	"document moves to another file": (*history).moveDocument,
	"file torn": func(h *history, name string) {
		if f, found := h.files[name+".yaml"]; found {
			f.tear = rapid.SampledFrom([]tear{writing, half, garbage}).Draw(h.rt, "tear")
			h.files[name+".yaml"] = f
		}
	},
	"files whole": func(h *history, _ string) { h.mend() },
	"everything removed": func(h *history, _ string) {
		h.files = map[string]specFile{}
	},
	"source unreadable": func(h *history, _ string) { h.sourceErr = errors.New("injected: input/output error") },
	"source readable":   func(h *history, _ string) { h.sourceErr, h.unmarked = nil, false },
	"marker gone":       func(h *history, _ string) { h.unmarked = true },
	"daemon killed":     func(h *history, _ string) { h.restart() },
	"reboot":            func(h *history, _ string) { h.reboot(h.world.Reboot) },
	"power cut":         func(h *history, _ string) { h.reboot(h.world.PowerCut) },
	"kind unknown": func(h *history, _ string) {
		h.world.Unknown[rapid.SampledFrom(unknowable).Draw(h.rt, "kind")] = errUnknown
	},
	"all known": func(h *history, _ string) { h.world.Unknown = map[resource.Kind]error{} },
	"service down": func(h *history, _ string) {
		kind := rapid.SampledFrom([]resource.Kind{resource.KindCluster, resource.KindProxy, resource.KindResolver, resource.KindActivator}).Draw(h.rt, "service")
		h.world.Stop(kind, rapid.Bool().Draw(h.rt, "stuck"))
	},
	"services up": func(h *history, _ string) { h.world.Repair() },
	"time passes": func(h *history, _ string) {
		h.world.Now = h.world.Now.Add(time.Duration(rapid.IntRange(0, 3600).Draw(h.rt, "seconds")) * time.Second)
	},
	"clock jumps": func(h *history, _ string) {
		h.jump(time.Duration(rapid.IntRange(-7200, 7200).Draw(h.rt, "seconds")) * time.Second)
	},
	"machine dies": func(h *history, name string) {
		for _, r := range h.world.Things.Sorted() {
			if r.Kind == resource.KindUnit && strings.HasPrefix(r.Name, name+"-") {
				h.world.Kill(r.Name, rapid.SampledFrom([]int{0, 1, 137}).Draw(h.rt, "code"))
			}
		}
	},
	"nobody asks":   func(h *history, name string) { h.world.Idle(name) },
	"somebody asks": func(h *history, name string) { h.world.Request(name) },
	"image breaks": func(h *history, _ string) {
		word := rapid.SampledFrom([]string{"1", "2", "3"}).Draw(h.rt, "image")
		h.world.Images[word] = rapid.SampledFrom([]simworld.Image{simworld.Crashes, simworld.Mute}).Draw(h.rt, "how")
		h.everBroken = true
	},
	"images repaired":  func(h *history, _ string) { h.world.Images = map[string]simworld.Image{} },
	"repository gone":  func(h *history, _ string) { h.world.Repositories[forge] = "" },
	"repository moves": func(h *history, _ string) { h.world.Repositories[forge] = fmt.Sprintf("c0ffee%d", h.landed) },
	"mirror lost":      func(h *history, _ string) { h.world.LoseCheckouts() },
	"secret set": func(h *history, _ string) {
		h.secrets["token"] = fmt.Sprintf("canary-%d", rapid.IntRange(1000, 1003).Draw(h.rt, "value"))
	},
	"secret removed":     func(h *history, _ string) { delete(h.secrets, "token") },
	"secrets unreadable": func(h *history, _ string) { h.secretsErr = errUnknown },
	"secrets readable":   func(h *history, _ string) { h.secretsErr = nil },
}

// moveDocument takes the first document of one file to the end of another.
func (h *history) moveDocument(name string) {
	from, to := h.files[name+".yaml"], rapid.SampledFrom(names).Draw(h.rt, "to")+".yaml"
	if len(from.docs) == 0 || to == name+".yaml" {
		return
	}
	doc := from.docs[0]
	from.docs = slices.Clone(from.docs[1:])
	h.files[name+".yaml"] = from
	target := h.files[to]
	doc.Position = spec.Position{File: to, Line: 1 + 10*len(target.docs), Column: 1}
	target.docs = append(slices.Clone(target.docs), doc)
	h.files[to] = target
}

func (h *history) mend() {
	for name, f := range h.files {
		f.tear = whole
		h.files[name] = f
	}
}

// jump sets the wall clock. What the daemon holds in memory was measured with
// the monotonic clock and goes along.
func (s *sim) jump(d time.Duration) {
	s.world.Now = s.world.Now.Add(d)
	for id, f := range s.core.failures {
		if !f.RetryAt.IsZero() {
			f.RetryAt = f.RetryAt.Add(d)
			s.core.failures[id] = f
		}
	}
	missing := maps.Clone(s.core.missing.Missing)
	for uid, m := range missing {
		for _, t := range []*time.Time{&m.Since, &m.Clear, &m.Writing} {
			if !t.IsZero() {
				*t = t.Add(d)
			}
		}
		missing[uid] = m
	}
	s.core.missing.Missing = missing
}

// variant is one of several specs of an object: with and without data, hot and
// cold differences, links, disabled, broken.
func (h *history) variant(name string) v1alpha1.Container {
	c := command(web(name), fmt.Sprint(rapid.IntRange(1, 3).Draw(h.rt, "command")))
	switch rapid.IntRange(0, 4).Draw(h.rt, "data") {
	case 0:
		c = withData(c, "Retain")
	case 1:
		c = withData(c, "Delete")
	}
	switch rapid.IntRange(0, 9).Draw(h.rt, "extra") {
	case 0:
		c = disabled(c)
	case 1:
		if to := rapid.SampledFrom(names).Draw(h.rt, "to"); to != name {
			c = linked(c, to)
		}
	case 2:
		c.Spec.Network.Egress.Mode = "none"
	case 3:
		c.Spec.Ephemeral = true
	case 4:
		c = withSecret(c, "token")
	case 5:
		c = routed(c, "shared.example.org")
	case 6:
		c = cloning(c, forge)
	case 7, 8:
		c = sleepy(c)
	}
	return c
}

// steps goes on for n ticks, with a fault now and then.
func (h *history) steps(n int) {
	for range n {
		h.fault, h.faultAt = noFault, h.landed
		if rapid.IntRange(0, 9).Draw(h.rt, "fault?") == 0 {
			h.fault = rapid.SampledFrom(faults).Draw(h.rt, "fault")
		}
		if !h.tick() {
			h.wait()
		}
	}
}

// end lets all faults end and asserts that what is wanted is there, and no more.
func (h *history) end() {
	h.note("--- the faults end", resource.Step{}, nil)
	h.faultAt, h.world.Unknown, h.hits = -1, map[resource.Kind]error{}, nil
	h.sourceErr, h.unmarked, h.secretsErr = nil, false, nil
	h.secrets["token"] = "canary-1009"
	h.world.Images = map[string]simworld.Image{}
	delete(h.world.Repositories, forge)
	h.world.Repair()
	for _, name := range names {
		h.world.Request(name)
	}
	h.mend()
	h.settle()
	h.release()
	h.world.Now = h.world.Now.Add(time.Hour)
	h.settle()
	h.makeRoom()
	wanted := h.wantedNames()
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		h.wantServed(name)
	}
	h.nothingLeft(wanted)
	h.unique()
	h.keptData()
	h.quiet()
	h.secretFree()
}

// release lets held deletions happen, as `tekton release-deletes` does.
func (h *history) release() {
	for _, st := range h.last.Sources {
		for _, ref := range st.Held {
			uid := h.item(ref.Name).Metadata.UID
			c := resource.Claim{Key: ReleaseKey("local", uid), Owner: uid}
			if err := h.world.Apply(resource.Step{Verb: resource.Put, Resource: resource.New(uid, "", c.Key, c)}); err != nil {
				h.rt.Fatalf("release: %v", err)
			}
		}
	}
	h.settle()
}

// makeRoom removes objects while slots are too few for all and an update each.
func (h *history) makeRoom() {
	for len(h.wantedNames())+1 > h.conf.Naming.Slots() {
		for name := range h.wantedNames() {
			h.wantServed(name, "NoFreeSlot")
		}
		for _, file := range slices.Sorted(maps.Keys(h.files)) {
			if len(h.files[file].docs) > 0 {
				h.note("--- room is made: "+file, resource.Step{}, nil)
				h.delete(file)
				break
			}
		}
		h.settle()
		h.release()
		h.world.Now = h.world.Now.Add(time.Hour)
		h.settle()
	}
}

func (h *history) wantedNames() map[string]bool {
	out := map[string]bool{}
	for _, f := range h.files {
		for _, o := range f.docs {
			out[o.Meta().Name] = true
		}
	}
	return out
}

// wantServed wants an object Ready, or not so for a reason that a person gave.
func (h *history) wantServed(name string, alsoFine ...string) {
	i := h.item(name)
	if i.Status.Phase == v1alpha1.PhaseReady || i.Status.Phase == v1alpha1.PhaseDisabled {
		return
	}
	fine := append([]string{"LinkTargetMissing", "RouteConflict", "DuplicateName"}, alsoFine...)
	for _, c := range i.Status.Conditions {
		rolledBack := c.Type == v1alpha1.ConditionRolledBack && c.Status == v1alpha1.ConditionTrue && h.everBroken
		if slices.Contains(fine, c.Reason) || rolledBack {
			return
		}
	}
	h.rt.Fatalf("%s is %s: %+v\nhistory:\n%s", name, i.Status.Phase, i.Status.Conditions, h.history())
}

// nothingLeft asserts that everything on the host belongs to a wanted object.
func (h *history) nothingLeft(wanted map[string]bool) {
	owners := map[string]bool{resource.HostOwner: true, resource.RetainedOwner: true}
	for _, i := range h.last.Items {
		owners[i.Metadata.UID] = true
		if !wanted[i.Metadata.Name] {
			h.rt.Fatalf("%s is %s, but no file asks for it: %+v\nhistory:\n%s", i.Metadata.Name, i.Status.Phase, i.Status.Conditions, h.history())
		}
	}
	for _, r := range h.world.Things.Sorted() {
		if !owners[r.Owner] {
			h.rt.Fatalf("%s of %s is left over; history:\n%s", r.ID, r.Owner, h.history())
		}
	}
	for key, c := range h.world.Claims {
		if !owners[c.Owner] {
			h.rt.Fatalf("claim %s of %s is left over; history:\n%s", key, c.Owner, h.history())
		}
	}
}
