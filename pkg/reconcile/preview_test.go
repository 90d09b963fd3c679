package reconcile

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/simworld"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/spec"
)

const application = "services: [{name: web, command: [serve]}]\nroutes: [{port: 3000}]\ndatabase: {env: DATABASE_URL}\n"

// preview shows a branch.
func (s *sim) preview(branch string, edits ...func(*v1alpha1.PreviewSpec)) {
	p := &v1alpha1.Preview{
		Metadata: v1alpha1.ObjectMeta{Name: "shop"},
		Spec:     v1alpha1.PreviewSpec{Repository: v1alpha1.PreviewRepository{URL: forge}, Branch: branch, Host: "shop.preview.test", Refresh: &v1alpha1.Duration{Duration: time.Hour}},
	}
	for _, edit := range edits {
		edit(&p.Spec)
	}
	p.Default(&s.conf.Host)
	s.files["shop.yaml"] = specFile{docs: []spec.Object{{Object: p, Position: spec.Position{File: "shop.yaml", Line: 1}, Digest: spec.Digest(p)}}}
}

// pushes has the branch be at a commit whose preview.yaml is config.
func (s *sim) pushes(commit, config string) {
	s.world.Repositories[forge] = commit
	s.world.Texts[commit] = config
}

// looked lets so much time pass that the repository is looked at again.
func (s *sim) looked() {
	s.world.Now = s.world.Now.Add(time.Hour)
	s.settle()
}

// TestPreview: a commit is fetched, set up and served; later ones keep the
// machine; what is wrong with one leaves what serves, and says why.
func TestPreview(t *testing.T) {
	s := newSim(t)
	s.pushes("c1", application)
	s.preview("main")
	s.building()
	s.wantPhase("shop", v1alpha1.PhaseFetching)
	s.settle()
	s.wantPhase("shop", v1alpha1.PhaseReady)
	if got := s.setup("shop-1").Run.Done; got != "c1" {
		t.Errorf("set up for %q", got)
	}
	s.quiet()

	s.pushes("c2", application)
	s.looked()
	s.wantPhase("shop", v1alpha1.PhaseReady)
	if got := s.setup("shop-1").Run.Done; got != "c2" || s.world.Starts["shop-1"] != 1 {
		t.Errorf("set up for %q after %d starts", got, s.world.Starts["shop-1"])
	}

	s.pushes("c3", "service: []\n")
	s.looked()
	s.wantPhase("shop", v1alpha1.PhaseDegraded)
	s.wantCondition("shop", v1alpha1.ConditionConfigured, v1alpha1.ConditionFalse, "ConfigInvalid")
	s.serves("shop")

	setupFails("c4", "SetupFailed")(s)
	s.pushes("c4", application)
	s.looked()
	s.wantPhase("shop", v1alpha1.PhaseDegraded)
	s.wantCondition("shop", v1alpha1.ConditionSetUp, v1alpha1.ConditionFalse, "SetupFailed")
	s.serves("shop")

	s.world.Repositories[forge] = "" // the branch is gone
	s.looked()
	s.wantCondition("shop", v1alpha1.ConditionFetched, v1alpha1.ConditionTrue, "RefNotFound")
	s.serves("shop")

	s.delete("shop.yaml")
	s.settle()
	for id := range s.world.Things {
		if id.Kind == resource.KindCheckout || id.Kind == resource.KindSetup || id.Kind == resource.KindUnit || id.Kind == resource.KindDatabase || id.Kind == resource.KindVolume {
			t.Errorf("%s is left", id)
		}
	}
}

// TestNixPreview: what a commit's configuration builds to is started and set up;
// another one takes its place.
func TestNixPreview(t *testing.T) {
	s := newSim(t)
	const one = `{"setupService":"setup","appServices":["web"],"database":"host","routes":[{"path":"/","port":3000}]}`
	s.conf.Host.Previews.Nix = &v1alpha1.PreviewsNix{Flake: "path:/srv/previews#lib.mkPreview"}
	s.restart()
	s.pushes("c1", one)
	s.preview("main", func(p *v1alpha1.PreviewSpec) { p.Config = "preview-config.nix" })
	s.settle()
	s.wantPhase("shop", v1alpha1.PhaseReady)
	if got := s.setup("shop-1"); got.Run.Done != "c1" || got.Unit != "setup.service" {
		t.Errorf("set up is %+v", got)
	}
	s.quiet()
	s.pushes("c2", one)
	s.looked()
	if got := s.setup("shop-1").Run.Done; got != "c2" || s.world.Starts["shop-1"] != 1 {
		t.Errorf("set up for %q after %d starts", got, s.world.Starts["shop-1"])
	}
	s.pushes("c3", one+" ")
	s.looked()
	s.wantPhase("shop", v1alpha1.PhaseReady)
	if got := s.setup("shop-2").Run.Done; got != "c3" || s.count(resource.KindUnit) != 1 {
		t.Errorf("set up for %q, %d machines", got, s.count(resource.KindUnit))
	}
	s.delete("shop.yaml")
	s.settle()
	for id := range s.world.Things {
		if id.Kind == resource.KindClosure || id.Kind == resource.KindGCRoot || id.Kind == resource.KindUnit || id.Kind == resource.KindVolume {
			t.Errorf("%s is left", id)
		}
	}
}

func (s *sim) serves(name string) {
	s.t.Helper()
	if s.count(resource.KindRoute) != 1 || !s.unit(name+"-1").Running {
		s.t.Errorf("%s is not served", name)
	}
}

// TestUpdateAnswersAnew: services that a commit has started anew have to answer
// before the preview is said to show it. What it answered before says nothing.
func TestUpdateAnswersAnew(t *testing.T) {
	s := newSim(t)
	s.pushes("c1", application)
	s.preview("main")
	s.settle()
	s.wantPhase("shop", v1alpha1.PhaseReady)
	s.world.Images["."] = simworld.Mute
	s.pushes("c2", application)
	s.world.Now = s.world.Now.Add(time.Hour)
	for range 200 {
		if !s.tick() && !s.wait() {
			break
		}
		if s.setup("shop-1").Run.Done == "c2" && !s.setup("shop-1").Run.Running {
			if i := s.item("shop"); i.Status.Phase == v1alpha1.PhaseReady {
				t.Fatalf("it is said to be ready before it has answered: %+v", i.Status.Conditions)
			}
		}
	}
	s.wantPhase("shop", v1alpha1.PhaseDegraded)
	s.wantCondition("shop", v1alpha1.ConditionReady, v1alpha1.ConditionFalse, "ProbeFailed")
	s.serves("shop") // it may answer some requests, and nothing else would answer any
	if n := s.world.Starts["shop-1"]; n != 1 {
		t.Errorf("%d starts", n)
	}
	s.world.Images["."] = simworld.Works
	s.looked()
	s.wantPhase("shop", v1alpha1.PhaseReady)
	s.quiet()
}

// TestPreviewOfTemplate: without its template a preview has no database and no
// machine, and says so; it comes to be when the template does.
func TestPreviewOfTemplate(t *testing.T) {
	s := newSim(t)
	s.pushes("c1", application)
	s.preview("main", func(p *v1alpha1.PreviewSpec) { p.Database.Template = "golden" })
	s.settle()
	s.wantPhase("shop", v1alpha1.PhaseFailed)
	s.wantCondition("shop", v1alpha1.ConditionReady, v1alpha1.ConditionFalse, "TemplateMissing")
	if s.count(resource.KindDatabase) != 0 || s.count(resource.KindUnit) != 0 {
		t.Error("there is a database or a machine without the template")
	}
	s.world.Templates["golden"] = true
	s.world.Now = s.world.Now.Add(time.Hour)
	s.settle()
	s.wantPhase("shop", v1alpha1.PhaseReady)
	s.quiet()
	// It was needed once.
	s.world.Templates["golden"] = false
	s.pushes("c2", application)
	s.looked()
	s.wantPhase("shop", v1alpha1.PhaseReady)
}

const seededApplication = "services: [{name: web, command: [serve]}]\nroutes: [{port: 3000}]\ndatabase: {seed: {command: [seed]}}\n"

// offers another base of previews.
func (s *sim) offers(name string) {
	s.conf.Host.Previews.Systems = append(s.conf.Host.Previews.Systems, v1alpha1.PreviewSystem{Name: name, System: v1alpha1.System{RootFS: "/srv/" + name}})
	s.restart()
}

// postgres cannot be asked, or with nil again.
func (s *sim) postgres(err error) {
	s.world.Unknown[resource.KindRole], s.world.Unknown[resource.KindDatabase] = err, err
}

func (s *sim) seeds() (n int) {
	for _, times := range s.world.Seeds {
		n += times
	}
	return n
}

func (s *sim) dumps() (revisions []string) {
	for _, r := range s.world.Things.Sorted() {
		if v, ok := r.Value.(resource.Dump); ok {
			revisions = append(revisions, v.Revision)
		}
	}
	return revisions
}

// TestPreviewSeed: a seed that fails is told and tried again; one that succeeded
// is never run again for its database, whatever becomes of machine and daemon.
func TestPreviewSeed(t *testing.T) {
	s := newSim(t)
	s.world.SeedFails = true
	s.pushes("c1", seededApplication)
	s.preview("main")
	s.settle()
	s.wantPhase("shop", v1alpha1.PhaseFailed)
	s.wantCondition("shop", v1alpha1.ConditionSetUp, v1alpha1.ConditionFalse, "SeedFailed")
	if s.world.Setups["c1"] < 2 {
		t.Error("it is not tried again")
	}
	s.world.SeedFails = false
	s.looked()
	s.wantPhase("shop", v1alpha1.PhaseReady)
	s.quiet()
	s.pushes("c2", seededApplication+"# changed\n")
	s.looked()
	s.offers("other")
	s.pushes("c3", "system: other\n"+seededApplication)
	s.looked()
	s.reboot(s.world.PowerCut)
	s.settle()
	s.wantPhase("shop", v1alpha1.PhaseReady)
	if n := s.seeds(); n != 1 || !s.unit("shop-2").Running {
		t.Errorf("seeded %d times, want once; machine %+v", n, s.unit("shop-2"))
	}

	// Another database of the name: set up and seeded anew.
	for id, r := range s.world.Things {
		if v, ok := r.Value.(resource.Database); ok {
			v.OID, v.Revision, v.Seeded = 4711, "", false
			s.world.Things[id] = resource.New(r.Owner, "", r.Name, v)
		}
	}
	s.settle()
	if n := s.seeds(); n != 2 {
		t.Errorf("seeded %d times, want twice", n)
	}
	s.quiet()
}

// TestPreviewSeedIsKnownToTheDatabase: a machine and what is known of it may go
// before PostgreSQL, which could not be asked, has learned of the seed.
func TestPreviewSeedIsKnownToTheDatabase(t *testing.T) {
	s := newSim(t)
	s.world.Images["."] = simworld.Mute
	s.pushes("c1", seededApplication)
	s.preview("main")
	s.building()
	s.world.EndJobs()
	s.building()
	s.postgres(errors.New("PostgreSQL does not answer"))
	goOn := func() { // it does not settle: it does not answer, and PostgreSQL is looked at
		for range 200 {
			if !s.tick() && !s.wait() {
				break
			}
		}
	}
	goOn()
	if n := s.seeds(); n != 1 {
		t.Fatalf("seeded %d times before", n)
	}
	s.conf.Host.Previews.Systems = []v1alpha1.PreviewSystem{{Name: "host", System: v1alpha1.System{RootFS: "/srv/other"}}}
	s.restart()
	goOn()
	s.postgres(nil)
	s.world.Images["."] = simworld.Works
	s.looked()
	s.wantPhase("shop", v1alpha1.PhaseReady)
	if n := s.seeds(); n != 1 || !s.unit("shop-2").Running {
		t.Errorf("seeded %d times, want once", n)
	}
	if s.setup("shop-1").Revision != "" {
		t.Error("what the first machine was set up for is left")
	}
	s.quiet()
}

// TestPreviewDumps: one before each changed revision, none before the first, none
// at retries, and not too many; without it nothing is set up, and what serves goes on.
func TestPreviewDumps(t *testing.T) {
	s := newSim(t)
	s.pushes("c1", application)
	s.preview("main")
	s.settle()
	if got := s.dumps(); len(got) != 0 {
		t.Errorf("dumps before %s", got)
	}
	setupFails("c2", "SetupFailed")(s)
	s.pushes("c2", application)
	s.looked()
	if got := s.dumps(); len(got) != 1 || s.world.Setups["c2"] < 3 {
		t.Errorf("dumps before %s after %d attempts", got, s.world.Setups["c2"])
	}
	// PostgreSQL is down: nobody can dump.
	s.postgres(errors.New("PostgreSQL does not answer"))
	s.pushes("c3", application)
	s.looked()
	if n := s.world.Setups["c3"]; n != 0 {
		t.Error("set up without a dump")
	}
	s.serves("shop")
	s.world.Kill("shop-1", 1) // what runs comes back with what it was set up for
	s.settle()
	s.serves("shop")
	s.postgres(nil)
	s.looked()
	s.wantPhase("shop", v1alpha1.PhaseReady)
	// A closure that changes: before the machine is replaced.
	s.offers("other")
	s.pushes("c4", "system: other\n"+application)
	s.looked()
	if got := s.dumps(); len(got) != 3 {
		t.Errorf("dumps before %s", got)
	}
	for _, c := range []string{"c5", "c6", "c7"} {
		s.pushes(c, "system: other\n"+application)
		s.looked()
	}
	if got := s.dumps(); strings.Join(got, " ") != "c3 c4 c5 c6 c7" {
		t.Errorf("dumps before %s", got)
	}
	s.quiet()
	// With the preview nothing of the trash goes.
	s.delete("shop.yaml")
	s.settle()
	if got := s.dumps(); len(got) != 5 {
		t.Errorf("dumps before %s", got)
	}
}

// TestPreviewDumpsAnew: a commit that comes back after another one was set up finds
// the dump from before its first time: what was written since is not in that.
func TestPreviewDumpsAnew(t *testing.T) {
	s := newSim(t)
	for _, c := range []string{"c1", "c2", "c1", "c2"} {
		s.pushes(c, application)
		s.preview("main")
		s.looked()
		s.wantPhase("shop", v1alpha1.PhaseReady)
		s.quiet()
	}
	for id, n := range s.world.Dumps {
		if want := map[string]int{"c1": 1, "c2": 2}[s.world.Things[id].Value.(resource.Dump).Revision]; n != want {
			t.Errorf("%s was made %d times, want %d", id, n, want)
		}
	}
	if len(s.world.Dumps) != 2 {
		t.Errorf("dumps %v", s.world.Dumps)
	}
}

// TestPreviewPlan: what a change of a preview means, before it is made.
func TestPreviewPlan(t *testing.T) {
	other := func(branch string, edits ...func(*v1alpha1.PreviewSpec)) func(*sim) {
		return func(s *sim) { s.preview(branch, edits...) }
	}
	pushed := func(commit, config string) func(*sim) {
		return func(s *sim) {
			s.pushes(commit, config)
			s.world.Now = s.world.Now.Add(time.Hour)
			s.building()
			s.world.EndJobs() // it is fetched, and nobody has looked yet
		}
	}
	const fetching = "what will be fetched is not known"
	for name, tt := range map[string]struct {
		change         func(*sim)
		class          v1alpha1.PlanClass
		strategy, data string
		warning        string
	}{
		"nothing":        {func(*sim) {}, "", "", "kept", ""},
		"limits":         {other("main", func(p *v1alpha1.PreviewSpec) { p.Resources.TasksMax = 100 }), v1alpha1.PlanHot, "", "kept", ""},
		"egress":         {other("main", func(p *v1alpha1.PreviewSpec) { p.Egress.Mode = "none" }), v1alpha1.PlanHot, "", "kept", ""},
		"variables":      {other("main", func(p *v1alpha1.PreviewSpec) { p.Grants.Variables = map[string]string{"A": "b"} }), v1alpha1.PlanServices, "", "kept", ""},
		"setup again":    {other("main", func(p *v1alpha1.PreviewSpec) { p.Rebuild = 1 }), v1alpha1.PlanSetup, "", "kept", ""},
		"code":           {pushed("c2", application), v1alpha1.PlanSetup, "", "dumped", "is dumped to the trash"},
		"base":           {pushed("c2", "system: other\n"+application), v1alpha1.PlanReplacement, "Recreate", "dumped", "is dumped to the trash"},
		"another branch": {other("other"), v1alpha1.PlanSetup, "", "dumped", fetching},
		"disabled":       {other("main", func(p *v1alpha1.PreviewSpec) { p.Enabled = new(false) }), v1alpha1.PlanRestarts, "Recreate", "kept", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			s.offers("other")
			s.pushes("c1", application)
			s.preview("main")
			s.settle()
			tt.change(s)
			report, err := Report(context.Background(), s.conf, s.facts())
			if err != nil {
				t.Fatal(err)
			}
			o := report.Objects[0]
			data := map[v1alpha1.DataKind]v1alpha1.DataEffect{}
			for _, d := range o.Data {
				data[d.What] = d.Effect
			}
			if o.Class != tt.class || o.Strategy != tt.strategy || string(data[v1alpha1.DataDatabase]) != tt.data || data[v1alpha1.DataVolume] != v1alpha1.DataKept {
				t.Errorf("%s %s %s, data %v; want %s %s, database %s\n%s", o.Action, o.Class, o.Strategy, o.Data, tt.class, tt.strategy, tt.data, strings.Join(o.Steps, "\n"))
			}
			if warnings := strings.Join(o.Warnings, "\n"); tt.warning == "" != (warnings == "") || !strings.Contains(warnings, tt.warning) {
				t.Errorf("warnings %q, want %q", warnings, tt.warning)
			}
		})
	}
}

// TestPreviewDropsItsDatabase: a commit that asks for none leaves it, says so, and
// one that does again finds it; with the preview it goes by its policy.
func TestPreviewDropsItsDatabase(t *testing.T) {
	const without = "services: [{name: web, command: [serve]}]\nroutes: [{port: 3000}]\n"
	for policy, wantLeft := range map[string]bool{"Delete": false, "Retain": true} {
		t.Run(policy, func(t *testing.T) {
			s := newSim(t)
			s.pushes("c1", application)
			s.preview("main", func(p *v1alpha1.PreviewSpec) { p.Database.DeletionPolicy = policy })
			s.settle()
			database := func() (r resource.Resource) {
				for id, x := range s.world.Things {
					if id.Kind == resource.KindDatabase {
						r = x
					}
				}
				return r
			}
			first := database()
			s.pushes("c2", without)
			s.looked()
			s.wantPhase("shop", v1alpha1.PhaseReady)
			s.wantCondition("shop", v1alpha1.ConditionDatabaseReady, v1alpha1.ConditionTrue, "Unused")
			if now := database(); now.Owner != first.Owner || s.count(resource.KindAccess) != 0 || s.count(resource.KindCluster) != 1 {
				t.Errorf("the database was %+v, is %+v; %d accesses", first, now, s.count(resource.KindAccess))
			}
			if blocked := s.last.Plan.Blocked; len(blocked) > 0 {
				t.Errorf("blocked: %v", blocked)
			}
			s.quiet()
			report, err := Report(context.Background(), s.conf, s.facts())
			if err != nil || len(report.Objects[0].Data) == 0 || report.Objects[0].Data[0].Effect != v1alpha1.DataKept {
				t.Errorf("the plan says %+v (%v)", report.Objects, err)
			}
			s.reboot(s.world.PowerCut)
			s.settle()
			s.pushes("c3", application)
			s.looked()
			s.wantPhase("shop", v1alpha1.PhaseReady)
			if now := database(); now.Value.(resource.Database).OID != first.Value.(resource.Database).OID || s.count(resource.KindAccess) != 1 {
				t.Errorf("the database was %+v, is %+v", first, now)
			}
			if got := s.dumps(); len(got) != 1 || got[0] != "c3" {
				t.Errorf("dumps before %s, want c3: it has the data of c1", got)
			}
			s.pushes("c4", without)
			s.looked()
			s.delete("shop.yaml")
			s.settle()
			trashed := false
			for _, r := range s.world.Trash {
				trashed = trashed || r.Kind == resource.KindDatabase
			}
			if left := database().Name != ""; left != wantLeft || trashed == wantLeft || s.count(resource.KindCluster) != 0 {
				t.Errorf("left: %v, in the trash: %v", left, trashed)
			}
		})
	}
}
