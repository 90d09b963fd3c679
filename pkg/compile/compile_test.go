package compile

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

var update = flag.Bool("update", false, "write the goldens")

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// world is what a test says was claimed and observed.
type world struct {
	in      Input
	failing map[string]bool // revisions whose setup fails
}

func newWorld(subnet string) *world {
	h := v1alpha1.Host{Spec: v1alpha1.HostSpec{Subnet: subnet}}
	h.Default()
	h.Spec.Ingress.TLS = "off"
	w := &world{in: Input{
		Host: h.Spec, Layout: host.Layout{State: "/state", Run: "/run/t", Secrets: "/state/secrets"},
		Naming: resource.Naming{Subnet: netip.MustParsePrefix(subnet)}, Installation: "0123456789ab", Now: now,
		Observed: resource.Observed{}, Secrets: map[string]string{"token": "digest-1"}, Failures: map[resource.ID]resource.Failure{},
	}}
	for _, k := range slices.Concat(objectKinds, databaseKinds, []resource.Kind{resource.KindAnswer, resource.KindSysctl}) {
		w.in.Observed[k] = resource.Known()
	}
	w.claims()
	return w
}

// claims reads the claims anew from entries.
func (w *world) claims(entries ...resource.Claim) {
	c, err := ReadClaims(entries)
	if err != nil {
		panic(err)
	}
	w.in.Claims = c
}

// want sets the object of a name, with a UID that is its name.
func (w *world) want(name string, edit func(*v1alpha1.ContainerSpec)) {
	c := &v1alpha1.Container{
		TypeMeta: v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindContainer},
		Metadata: v1alpha1.ObjectMeta{Name: name},
		Spec:     v1alpha1.ContainerSpec{System: v1alpha1.System{Host: true}, Command: []string{"serve"}},
	}
	if edit != nil {
		edit(&c.Spec)
	}
	c.Default(&w.in.Host)
	raw, _ := json.Marshal(c)
	o := Object{
		Record:  ObjectRecord{UID: "uid-" + name, Kind: c.Kind, Name: name, Source: "local", File: name + ".yaml", Line: 1, Generation: 1, Digest: fmt.Sprint(len(raw)), Object: raw},
		Verdict: Wanted, Spec: c,
	}
	w.in.Objects = slices.DeleteFunc(w.in.Objects, func(x Object) bool { return x.Record.Name == name })
	w.in.Objects = append(w.in.Objects, o)
}

// settle takes all that is desired for done, until nothing changes: units run,
// probes are answered.
func (w *world) settle() Output {
	for range 20 {
		out := Compile(w.in)
		if !w.adopt(out) {
			return out
		}
	}
	panic("compile does not settle")
}

func (w *world) adopt(out Output) (changed bool) {
	entries := maps.Clone(w.in.Claims.All)
	for _, r := range out.Desired.Present {
		if c, ok := r.Value.(resource.Claim); ok {
			changed = changed || string(entries[c.Key].Value) != string(c.Value)
			entries[c.Key] = c
			continue
		}
		if u, ok := r.Value.(resource.Unit); ok {
			u.Boot, u.Leader = "boot-"+u.Name+u.Fingerprint, 7
			r.Value = u
		}
		if s, ok := r.Value.(resource.Setup); ok {
			run := resource.SetupRun{Done: s.Revision, Boot: s.Boot, Started: 1, Job: resource.Job{EndedAt: w.in.Now}}
			if w.failing[s.Revision] {
				have, _, _ := w.in.Observed.Get(r.ID)
				before, _ := have.Value.(resource.Setup)
				run = before.Run // what served before serves on
				run.Reason, run.EndedAt = "SetupFailed", w.in.Now
			}
			s.Run = run
			r.Value = s
		}
		have, present, known := w.in.Observed.Get(r.ID)
		changed = changed || known && (!present || !r.Equal(have))
		if _, isJob := r.Value.(resource.Worked); isJob && present && r.Equal(have) {
			r = have // with how it went
		}
		if w.in.Observed[r.Kind].Items != nil {
			w.in.Observed[r.Kind].Items[r.ID] = r
		}
	}
	for k, d := range w.in.Observed {
		for id, have := range d.Items {
			_, wanted := out.Desired.Present[id]
			if !wanted && k != resource.KindAnswer && out.Desired.Complete[have.Owner] && !out.Desired.Held[id] {
				delete(d.Items, id)
				changed = true
			}
		}
	}
	for key, e := range entries {
		id := resource.ID{Kind: resource.KindClaim, Name: key}
		if _, wanted := out.Desired.Present[id]; !wanted && out.Desired.Complete[e.Owner] && !out.Desired.Held[id] {
			delete(entries, key)
			changed = true
		}
	}
	w.claims(slices.Collect(maps.Values(entries))...)
	// A deleted object that has no claim any more is no object any more.
	w.in.Objects = slices.DeleteFunc(w.in.Objects, func(o Object) bool {
		return o.Verdict == Gone && !slices.ContainsFunc(slices.Collect(maps.Values(entries)), func(e resource.Claim) bool { return e.Owner == o.Record.UID })
	})
	return changed
}

func (w *world) set(r resource.Resource) { w.in.Observed[r.Kind].Items[r.ID] = r }

// text is the output as goldens show it.
func text(out Output) string {
	var b strings.Builder
	for _, r := range out.Desired.Present.Sorted() {
		value, _ := json.Marshal(r.Value)
		if c, ok := r.Value.(resource.Claim); ok {
			value = c.Value // with the object's whole spec in it, of no interest here
			if len(value) > 90 {
				value = append(value[:90:90], "…"...)
			}
		}
		fmt.Fprintf(&b, "%s\n    owner %s %s\n    %s\n", r.ID, r.Owner, r.Instance, value)
	}
	for _, id := range slices.SortedFunc(maps.Keys(out.Desired.Held), resource.ID.Compare) {
		fmt.Fprintf(&b, "hold %s\n", id)
	}
	fmt.Fprintf(&b, "complete %v\n", slices.Sorted(maps.Keys(out.Desired.Complete)))
	for _, o := range out.Objects {
		fmt.Fprintf(&b, "%s: update %q, urls %v\n", o.Record.Name, o.Update, o.URLs)
		for _, n := range o.Notes {
			fmt.Fprintf(&b, "    %s=%s %s: %s\n", n.Type, n.Status, n.Reason, n.Message)
		}
	}
	if !out.NextWake.IsZero() {
		fmt.Fprintf(&b, "wake after %s\n", out.NextWake.Sub(now))
	}
	return b.String()
}

func all(s *v1alpha1.ContainerSpec) {
	s.Environment = map[string]string{"B": "2", "A": "1"}
	s.Volumes = []v1alpha1.Volume{{Name: "data", Path: "/data", DeletionPolicy: "Delete"}}
	s.Databases = []v1alpha1.Database{{Name: "main"}}
	s.Credentials = []v1alpha1.Credential{{Name: "token"}}
	s.Routes = []v1alpha1.Route{{Host: "web.example.org", Port: 8080, TLS: "off"}, {Host: "web.example.org", Path: "/api", Port: 9090, StripPrefix: true, TLS: "off"}}
	s.Network = v1alpha1.Network{
		Egress: v1alpha1.Egress{Mode: "none", Allow: []string{"1.2.3.0/24:443", "8.8.8.8:53/udp"}},
		Links:  []v1alpha1.NetworkLink{{To: "db", Port: 5433}},
		Ports:  []v1alpha1.Port{{HostPort: 2222, Port: 22, HostIP: "0.0.0.0"}},
	}
	s.Resources = v1alpha1.Resources{CPUQuota: "150%", TasksMax: 100}
}

func routed(hostname string) func(*v1alpha1.ContainerSpec) {
	return func(s *v1alpha1.ContainerSpec) {
		s.Routes = []v1alpha1.Route{{Host: hostname, Port: 8080, TLS: "off"}}
	}
}

func TestGolden(t *testing.T) {
	tests := map[string]func() Output{
		"new object claims first": func() Output {
			w := newWorld("10.99.0.0/24")
			w.want("web", routed("web.example.org"))
			return Compile(w.in)
		},
		"every field": func() Output {
			w := newWorld("10.99.0.0/24")
			w.want("web", all)
			w.want("db", nil)
			return w.settle()
		},
		"overlap keeps the former until the target answers": func() Output {
			w := newWorld("10.99.0.0/24")
			w.want("web", routed("web.example.org"))
			w.settle()
			w.want("web", func(s *v1alpha1.ContainerSpec) { routed("web.example.org")(s); s.User = "nobody" })
			w.adopt(Compile(w.in))
			return Compile(w.in)
		},
		"recreate stops the former when the target is prepared": func() Output {
			w := newWorld("10.99.0.0/24")
			data := func(s *v1alpha1.ContainerSpec) { s.Volumes = []v1alpha1.Volume{{Name: "data", Path: "/data"}} }
			w.want("web", data)
			w.settle()
			w.want("web", func(s *v1alpha1.ContainerSpec) { data(s); s.User = "nobody" })
			w.adopt(Compile(w.in))
			w.adopt(Compile(w.in))
			return Compile(w.in)
		},
		"a failed update is rolled back": func() Output {
			w := newWorld("10.99.0.0/24")
			w.want("web", routed("web.example.org"))
			w.settle()
			w.want("web", func(s *v1alpha1.ContainerSpec) { routed("web.example.org")(s); s.User = "nobody" })
			w.adopt(Compile(w.in))
			w.in.Failures[resource.ID{Kind: resource.KindAnswer, Name: "web-2"}] = resource.Failure{Reason: resource.ReasonProbeFailed, Message: "no answer in 60s", Attempts: 1}
			w.adopt(Compile(w.in))
			return Compile(w.in)
		},
		"disabled keeps data and directory": func() Output {
			w := newWorld("10.99.0.0/24")
			w.want("web", all)
			w.settle()
			w.want("web", func(s *v1alpha1.ContainerSpec) { all(s); s.Enabled = new(false) })
			return Compile(w.in)
		},
		"asleep keeps all but what runs": func() Output {
			w := newWorld("10.99.0.0/24")
			w.want("web", func(s *v1alpha1.ContainerSpec) {
				all(s)
				s.SleepAfter, s.Network.Ports = &v1alpha1.Duration{Duration: time.Hour}, nil
			})
			w.settle()
			id := resource.ID{Kind: resource.KindGate, Name: "web"}
			r := w.in.Observed[resource.KindGate].Items[id]
			gate := r.Value.(resource.Gate)
			gate.Asleep, gate.Since = true, w.in.Now
			r.Value = gate
			w.in.Observed[resource.KindGate].Items[id] = r
			return Compile(w.in)
		},
		"paused changes nothing": func() Output {
			w := newWorld("10.99.0.0/24")
			w.want("web", routed("web.example.org"))
			w.settle()
			w.want("web", func(s *v1alpha1.ContainerSpec) { s.Paused = true; s.User = "nobody" })
			return Compile(w.in)
		},
		"deletion begins with the tombstone": func() Output {
			w := newWorld("10.99.0.0/24")
			w.want("web", all)
			w.settle()
			w.in.Objects[0].Verdict, w.in.Objects[0].Why = Gone, "its file was removed"
			return Compile(w.in)
		},
		"deletion withdraws everything but claims": func() Output {
			w := newWorld("10.99.0.0/24")
			w.want("web", routed("web.example.org"))
			w.settle()
			w.in.Objects[0].Verdict, w.in.Objects[0].Why = Gone, "its file was removed"
			out := Compile(w.in)
			entries := maps.Clone(w.in.Claims.All)
			tomb := out.Desired.Present[resource.ID{Kind: resource.KindClaim, Name: TombstoneKey("uid-web")}].Value.(resource.Claim)
			entries[tomb.Key] = tomb
			w.claims(slices.Collect(maps.Values(entries))...)
			return Compile(w.in)
		},
		"an ended machine waits for its backoff": func() Output {
			w := newWorld("10.99.0.0/24")
			w.want("web", routed("web.example.org"))
			w.settle()
			w.set(resource.New("uid-web", "web-1", "web-1", resource.Unit{Name: "web-1", ExitedAt: now.Add(-time.Second), ExitCode: 3, Failures: 4, LastLog: []string{"cannot bind"}}))
			return Compile(w.in)
		},
		"unknown units hold": func() Output {
			w := newWorld("10.99.0.0/24")
			w.want("web", routed("web.example.org"))
			w.settle()
			w.in.Observed[resource.KindUnit] = resource.Unknown(fmt.Errorf("systemd does not answer"))
			return Compile(w.in)
		},
	}
	for name, run := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", strings.ReplaceAll(name, " ", "-")+".golden")
			got := text(run())
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestNotes(t *testing.T) {
	tests := map[string]struct {
		reason string // of the note that is wanted
		of     string // name of the object
		run    func(w *world)
	}{
		"a missing secret": {"SecretMissing", "web", func(w *world) {
			w.want("web", func(s *v1alpha1.ContainerSpec) { s.Credentials = []v1alpha1.Credential{{Name: "nope"}} })
		}},
		"unreadable secrets":       {"SecretsUnreadable", "web", func(w *world) { w.in.SecretsErr = os.ErrPermission; w.want("web", all) }},
		"the second of two routes": {"RouteConflict", "web", func(w *world) { w.want("blog", routed("x.example.org")); w.want("web", routed("x.example.org")) }},
		"the first claim wins": {"RouteConflict", "blog", func(w *world) {
			w.want("web", routed("x.example.org"))
			w.settle()
			w.want("blog", routed("x.example.org"))
		}},
		"two owners of a port": {"PortConflict", "web", func(w *world) {
			port := func(s *v1alpha1.ContainerSpec) { s.Network.Ports = []v1alpha1.Port{{HostPort: 25, HostIP: "0.0.0.0"}} }
			w.want("mail", port)
			w.settle()
			w.want("web", func(s *v1alpha1.ContainerSpec) {
				s.Network.Ports = []v1alpha1.Port{{HostPort: 25, HostIP: "192.0.2.1"}}
			})
		}},
		"a link to nobody": {"LinkTargetMissing", "web", func(w *world) {
			w.want("web", func(s *v1alpha1.ContainerSpec) { s.Network.Links = []v1alpha1.NetworkLink{{To: "db", Port: 1}} })
		}},
		"a dependency first": {"WaitingForDependency", "web", func(w *world) { w.want("web", func(s *v1alpha1.ContainerSpec) { s.DependsOn = []string{"db"} }) }},
		"a cycle": {"DependencyCycle", "web", func(w *world) {
			w.want("web", func(s *v1alpha1.ContainerSpec) { s.DependsOn = []string{"db"} })
			w.want("db", func(s *v1alpha1.ContainerSpec) { s.DependsOn = []string{"web"} })
		}},
		"data of another source": {"DataConflict", "web", func(w *world) {
			w.claims(claim(DataKey(resource.ID{Kind: resource.KindVolume, Name: "container.web.data"}), resource.HostOwner, DataRecord{Kind: "Container", Name: "web", Source: "elsewhere"}).Value.(resource.Claim))
			w.want("web", all)
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld("10.99.0.0/24")
			tt.run(w)
			w.adopt(Compile(w.in))
			var got []string
			for _, o := range Compile(w.in).Objects {
				for _, n := range o.Notes {
					got = append(got, o.Record.Name+" "+n.Reason)
				}
			}
			if !slices.Contains(got, tt.of+" "+tt.reason) {
				t.Errorf("notes are %v, want %s %s", got, tt.of, tt.reason)
			}
		})
	}
}

// TestManyDependencies: that all depend on all earlier ones takes no longer
// than it has to, though the ways through them are more than can be walked.
func TestManyDependencies(t *testing.T) {
	w := newWorld("10.99.0.0/24")
	var names []string
	for i := range 60 {
		name := fmt.Sprintf("c%02d", i)
		w.want(name, func(s *v1alpha1.ContainerSpec) { s.DependsOn = slices.Clone(names) })
		names = append(names, name)
	}
	for _, o := range Compile(w.in).Objects {
		for _, n := range o.Notes {
			if n.Reason == "DependencyCycle" {
				t.Errorf("%s: %s", o.Record.Name, n.Message)
			}
		}
	}
	w.want("c00", func(s *v1alpha1.ContainerSpec) { s.DependsOn = []string{"c59"} })
	for _, o := range Compile(w.in).Objects {
		if !slices.ContainsFunc(o.Notes, func(n Note) bool { return n.Reason == "DependencyCycle" }) {
			t.Errorf("%s leads back to itself, and is not told so", o.Record.Name)
		}
	}
}

// TestSlots fills a /28 (6 slots): the seventh object is told so, gets the
// place of one that goes at once, and a cooled-down slot is preferred to none.
func TestSlots(t *testing.T) {
	w := newWorld("10.99.0.0/28")
	for i := range 7 {
		w.want(fmt.Sprintf("w%d", i), nil)
	}
	out := w.settle()
	used := map[int]string{}
	for _, o := range out.Objects[:6] {
		if other := used[o.Target.Slot]; other != "" || o.Target.Slot < 1 || o.Target.Slot > 6 {
			t.Errorf("%s has slot %d, also given to %q", o.Record.Name, o.Target.Slot, other)
		}
		used[o.Target.Slot] = o.Record.Name
	}
	last := out.Objects[6]
	if last.Target != nil || len(last.Notes) != 1 || last.Notes[0].Reason != "NoFreeSlot" {
		t.Fatalf("the seventh has %+v, notes %+v", last.Target, last.Notes)
	}
	freed := out.Objects[2].Target.Slot
	w.in.Objects[2].Verdict = Gone
	out = w.settle()
	if got := out.Objects[5].Target; got == nil || got.Slot != freed {
		t.Errorf("the waiting object has %+v, want slot %d: exhaustion cuts the cool-down short", got, freed)
	}
}

func TestCoolDown(t *testing.T) {
	w := newWorld("10.99.0.0/24")
	w.want("a", nil)
	w.settle()
	w.in.Objects[0].Verdict = Gone
	w.settle()
	w.want("b", nil)
	if out := w.settle(); out.Objects[0].Target.Slot != 2 {
		t.Errorf("b has slot %d, want 2: slot 1 cools down", out.Objects[0].Target.Slot)
	} else if out.NextWake.Sub(now) != 5*time.Minute {
		t.Errorf("wakes after %s, want 5m: the end of the cool-down", out.NextWake.Sub(now))
	}
	w.in.Now = now.Add(time.Hour)
	if out := w.settle(); len(w.in.Claims.Slots) != 1 {
		t.Errorf("slots %v are claimed, want b's only; %s", w.in.Claims.Slots, text(out))
	}
}

// TestCoolDownOfNamesake lets an object come again while the slot of its
// earlier life cools down: that one is given back, though the name is in use.
func TestCoolDownOfNamesake(t *testing.T) {
	w := newWorld("10.99.0.0/24")
	w.want("a", nil)
	w.settle()
	w.in.Objects[0].Verdict = Gone
	w.settle()
	w.want("a", nil)
	if out := w.settle(); out.Objects[0].Target.Slot != 2 {
		t.Fatalf("the namesake has slot %d, want 2: slot 1 cools down", out.Objects[0].Target.Slot)
	}
	w.in.Now = now.Add(time.Hour)
	if out := w.settle(); len(w.in.Claims.Slots) != 1 {
		t.Errorf("slots %v are claimed, want the second only; %s", w.in.Claims.Slots, text(out))
	}
}

// TestHotFields change without a new incarnation, the others with one.
func TestHotFields(t *testing.T) {
	hot := map[string]func(*v1alpha1.ContainerSpec){
		"routes":        func(s *v1alpha1.ContainerSpec) { s.Routes = nil },
		"egress":        func(s *v1alpha1.ContainerSpec) { s.Network.Egress.Mode = "internet" },
		"ports":         func(s *v1alpha1.ContainerSpec) { s.Network.Ports = nil },
		"resources":     func(s *v1alpha1.ContainerSpec) { s.Resources = v1alpha1.Resources{} },
		"probe":         func(s *v1alpha1.ContainerSpec) { s.Probe = &v1alpha1.Probe{TCP: &v1alpha1.TCPProbe{Port: 1}} },
		"restartPolicy": func(s *v1alpha1.ContainerSpec) { s.RestartPolicy = "Never" },
		"volume policy": func(s *v1alpha1.ContainerSpec) { s.Volumes[0].DeletionPolicy = "Retain" },
	}
	cold := map[string]func(*v1alpha1.ContainerSpec){
		"command":     func(s *v1alpha1.ContainerSpec) { s.Command = []string{"other"} },
		"environment": func(s *v1alpha1.ContainerSpec) { s.Environment["A"] = "3" },
		"user":        func(s *v1alpha1.ContainerSpec) { s.User = "nobody" },
		"volume path": func(s *v1alpha1.ContainerSpec) { s.Volumes[0].Path = "/elsewhere" },
		"trust":       func(s *v1alpha1.ContainerSpec) { s.Trust = "trusted" },
		"host ids":    func(s *v1alpha1.ContainerSpec) { s.UserNamespace = new(false) },
	}
	fingerprint := func(edit func(*v1alpha1.ContainerSpec), digest string) string {
		w := newWorld("10.99.0.0/24")
		w.want("web", func(s *v1alpha1.ContainerSpec) { all(s); edit(s) })
		return Fingerprint(w.in.Objects[0].Spec.Machine(), []string{digest})
	}
	base := fingerprint(func(*v1alpha1.ContainerSpec) {}, "d")
	for name, edit := range hot {
		if fingerprint(edit, "d") != base {
			t.Errorf("%s: needs a new start, want a hot change", name)
		}
	}
	for name, edit := range cold {
		if fingerprint(edit, "d") == base {
			t.Errorf("%s: changes hot, want a new start", name)
		}
	}
	if fingerprint(func(*v1alpha1.ContainerSpec) {}, "other") == base {
		t.Error("a changed secret changes nothing")
	}
}

// TestGCRoots: what a machine runs on out of the Nix store is kept for as long
// as its directory is there, also while it is disabled.
func TestGCRoots(t *testing.T) {
	const closure = "/nix/store/a-system"
	inStore := func(s *v1alpha1.ContainerSpec) { s.System = v1alpha1.System{StorePath: closure} }
	for name, tt := range map[string]struct {
		nixos bool
		edit  func(*v1alpha1.ContainerSpec)
		want  string
	}{
		"storePath":          {edit: inStore, want: closure},
		"storePath on NixOS": {nixos: true, edit: inStore, want: closure},
		"disabled":           {edit: func(s *v1alpha1.ContainerSpec) { inStore(s); s.Enabled, s.Reason = new(false), "test" }, want: closure},
		"host":               {},
		"host on NixOS":      {nixos: true, want: "/state/machines/web-1/system"},
		"rootfs on NixOS":    {nixos: true, edit: func(s *v1alpha1.ContainerSpec) { s.System = v1alpha1.System{RootFS: "/srv/root"} }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld("10.1.0.0/16")
			w.in.NixOS = tt.nixos
			w.want("web", tt.edit)
			r, present := w.settle().Desired.Present[resource.ID{Kind: resource.KindGCRoot, Name: "web-1"}]
			if v, _ := r.Value.(resource.GCRoot); v.Target != tt.want || present != (tt.want != "") {
				t.Errorf("root is %q, want %q", v.Target, tt.want)
			}
			if present && (r.Owner != "uid-web" || r.Instance != "web-1") {
				t.Errorf("it is of %s, %s", r.Owner, r.Instance)
			}
		})
	}
}
