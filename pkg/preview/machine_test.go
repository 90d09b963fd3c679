package preview

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"tekton.host/pkg/api/v1alpha1"
)

func example(t testing.TB) (*v1alpha1.Preview, *v1alpha1.HostSpec) {
	t.Helper()
	h := v1alpha1.DefaultHost()
	h.Spec.Previews = v1alpha1.PreviewsConfig{Domain: "preview.example.org", Systems: []v1alpha1.PreviewSystem{
		{Name: "debian", System: v1alpha1.System{RootFS: "/srv/debian"}}, {Name: "host", System: v1alpha1.System{Host: true}},
	}}
	p := &v1alpha1.Preview{Metadata: v1alpha1.ObjectMeta{Name: "shop-main"}, Spec: v1alpha1.PreviewSpec{
		Repository: v1alpha1.PreviewRepository{URL: "https://example.org/team/shop.git"}, Branch: "feat/it's",
		PreviewTemplate: v1alpha1.PreviewTemplate{Grants: v1alpha1.PreviewGrants{
			Secrets: []v1alpha1.PreviewSecret{{Name: "STRIPE_KEY", Secret: "shop-stripe"}, {Name: "UNUSED"}}, Variables: map[string]string{"MODE": "preview"},
		}},
	}}
	p.Default(&h.Spec)
	if errs := append(h.Validate(), p.Validate(&h.Spec)...); len(errs) > 0 {
		t.Fatal(errs)
	}
	return p, &h.Spec
}

func machine(t testing.TB, config string) (*v1alpha1.ContainerSpec, []string) {
	return machineAt(t, Revision{Config: &config})
}

func machineAt(t testing.TB, r Revision) (*v1alpha1.ContainerSpec, []string) {
	t.Helper()
	p, h := example(t)
	if r.StorePath != "" {
		p.Spec.Config, p.Spec.Grants.RepositoryToken, p.Spec.Repository.Secret = "preview-config.nix", true, "shop-token"
		h.Previews.Nix = &v1alpha1.PreviewsNix{Flake: "github:me/previews#lib.mkPreview"}
		if errs := p.Validate(h); len(errs) > 0 {
			t.Fatal(errs)
		}
	}
	r.Commit, r.Dir = strings.Repeat("ab", 20), "/var/lib/tekton/checkouts/x"
	s, problems := Machine(p.Machine(), h, r)
	var texts []string
	for _, problem := range problems {
		texts = append(texts, problem.Error())
	}
	return s, texts
}

const full = `system: host
setup: {command: [sh, -c, "echo \"$HOME\" 100%"], timeout: 90s}
services:
  - {name: web, command: [node, server.js]}
  - name: api
    command: [./run, "a b", 'it''s \n']
    workingDirectory: api
    environment: {PORT: "4000", GREETING: "hello $USER"}
routes:
  - {port: 3000}
  - {path: /api, port: 4000, stripPrefix: true}
  - {hostPrefix: admin, port: 5000}
database: {extensions: [pg_trgm], seed: {command: [./seed, "100%"], timeout: 1m}}
secrets: [STRIPE_KEY]
probe: {http: {path: /health, port: 3000}}
`

const (
	storePath = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-shop"
	// fullMeta is what builtins.toJSON makes.
	fullMeta = `{"appServices":["shop-web","shop-worker.timer"],"checkout":true,"database":"host","extraHosts":[{"prefix":"admin","routes":[{"path":"/","port":5000}]}],"hostSecrets":["STRIPE_KEY"],"routes":[{"path":"/api/*","port":4000},{"path":"/docs/*","port":4001,"stripPrefix":true},{"path":"/health","port":4000},{"path":"/","port":3000}],"seedService":"seed-shop","setupService":"setup-shop"}`
)

// TestMachine compares what a file asks for with testdata.
func TestMachine(t *testing.T) {
	s, problems := machine(t, full)
	compare(t, "machine.yaml", s, problems)
}

// TestBuiltMachine: the same of a preview-config.nix.
func TestBuiltMachine(t *testing.T) {
	meta := fullMeta
	s, problems := machineAt(t, Revision{Config: &meta, StorePath: storePath})
	compare(t, "built.yaml", s, problems)
}

func compare(t *testing.T, name string, s *v1alpha1.ContainerSpec, problems []string) {
	t.Helper()
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	// Lowered fields are no part of a document: shown beside it.
	text, err := yaml.Marshal(map[string]any{"spec": s, "setup": s.Setup})
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte(v1alpha1.PreviewHome), []byte("HOME"))
	golden := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(text)); diff != "" {
		t.Errorf("-want +got (UPDATE=1 writes it):\n%s", diff)
	}
}

func TestLeastMachine(t *testing.T) {
	s, problems := machine(t, "services: [{name: web, command: [serve]}]\n")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if s.System.RootFS != "/srv/debian" || len(s.Databases) != 0 || len(s.Routes) != 0 || s.Setup.Unit != "" || len(s.Command) != 0 {
		t.Errorf("%+v %+v", s, s.Setup)
	}
}

// TestProblems: everything that is wrong, each where it stands.
func TestProblems(t *testing.T) {
	for name, tt := range map[string]struct {
		config string
		want   []string
	}{
		"nothing":  {"", []string{"preview.yaml:1:1: the file is empty"}},
		"comments": {"# soon\n", []string{"preview.yaml:1:1: holds no document"}},
		"list":     {"- a\n", []string{"preview.yaml:1:1: must be a mapping"}},
		"two":      {"services: [{name: a, command: [b]}]\n---\nroutes: []\n", []string{"preview.yaml:3:1: the file has more than one document"}},
		"kinds":    {"apiVersion: tekton.host/v1alpha1\nkind: Preview\nservices: [{name: a, command: [b]}]\n", []string{"1:1: apiVersion: unknown field", "2:1: kind: unknown field"}},
		"fields": {"service: []\nroutes:\n  - {port: 3000, host: a.b}\n", []string{
			`1:1: service: unknown field; did you mean "services"?`, "3:18: routes[0].host: unknown field"}},
		"types": {"services: web\nroutes: [{port: \"80\"}]\nsetup: npm ci\n", []string{
			"1:11: services: must be a list", "2:17: routes[0].port: must be a whole number", "3:8: setup: must be a mapping"}},
		"values": {`system: windows
setup: {command: [], timeout: 1ms}
services:
  - {name: Web, command: [""]}
  - {name: api, command: ["npm start"], workingDirectory: ../x}
  - {name: api, command: ["A=b"], environment: {PREVIEW_URL: x, "A B": y}}
routes:
  - {port: 70000}
  - {path: api, port: 1}
  - {path: /x, port: 1}
  - {path: /x, port: 2}
  - {path: "/y\n", port: 1}
  - {hostPrefix: Admin, port: 1}
database: {env: PREVIEW_DB, extensions: [plpython3u], seed: {command: [a b]}}
secrets: [STRIPE_KEY, ROOT_PASSWORD, STRIPE_KEY]
probe: {http: {port: 1}, tcp: {port: 2}}
`, []string{
			"1:9: system: \"windows\" is not a base that this host allows, which are: debian, host",
			"2:9: setup.command: is required", "2:31: setup.timeout:",
			"4:12: services[0].name:", "4:27: services[0].command[0]:",
			"5:27: services[1].command[0]: \"npm start\" is one word, no shell splits it; write a list: [npm, start]", "5:59: services[1].workingDirectory:",
			"6:12: services[2].name: \"api\" is already used by services[1].name", "6:27: services[2].command[0]:", "services[2].environment[A B]:", "services[2].environment[PREVIEW_URL]:",
			"8:12: routes[0].port:", "9:12: routes[1].path:", "11:5: routes[3]:", "12:12: routes[4].path:", "13:18: routes[5].hostPrefix:",
			"14:17: database.env:", "14:42: database.extensions[0]:", "14:72: database.seed.command[0]:",
			`15:23: secrets[1]: "ROOT_PASSWORD" is not granted to this preview (granted: STRIPE_KEY, UNUSED)`, "15:38: secrets[2]:",
			"16:1: probe: has http and tcp",
		}},
		"alias bomb": {"a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nservices: [*b,*b]\n", []string{"unknown field"}},
	} {
		_, got := machine(t, tt.config)
		for _, want := range tt.want {
			if !strings.Contains(strings.Join(got, "\n"), want) {
				t.Errorf("%s: no %q in\n%s", name, want, strings.Join(got, "\n"))
			}
		}
		if name == "values" && len(got) != len(tt.want) {
			t.Errorf("%s: %d problems, want %d:\n%s", name, len(got), len(tt.want), strings.Join(got, "\n"))
		}
	}
	p, h := example(t)
	if _, problems := Machine(p.Machine(), h, Revision{Commit: strings.Repeat("ab", 20)}); len(problems) != 1 || !strings.HasPrefix(problems[0].Error(), "preview.yaml: commit abababababab has no such file") {
		t.Errorf("no file: %v", problems)
	}
}

// TestMetaProblems: everything that a previewMeta can have wrong.
func TestMetaProblems(t *testing.T) {
	for name, tt := range map[string]struct {
		meta string
		want []string
	}{
		"no JSON": {"{", []string{"system.build.previewMeta:"}},
		"list":    {"[]", []string{"system.build.previewMeta:1:1: must be a mapping"}},
		"nothing": {"{}", []string{"setupService: is required", "appServices: is required", "database:", "routes: is required"}},
		"types": {`{"setupService": 1, "appServices": "web", "database": "host", "routes": {}}`, []string{
			"setupService: must be text", "1:36: appServices: must be a list", "routes: must be a list"}},
		"values": {`{"setupService": "-x", "appServices": ["a b", "web", "web.service", "$(id)", ""], "database": "hosT", "service": [],
 "routes": [{"path": "/a", "port": 70000}, {"path": "api", "port": 1}, {"path": "/b*", "port": 1}, {"path": "/c/*"}, {"path": "/c", "port": 2, "stripPrefix": true}, {"path": "/d\n}", "port": 1}],
 "hostSecrets": ["STRIPE_KEY", "ROOT_PASSWORD", "STRIPE_KEY"], "extraHosts": [{"prefix": "Admin", "routes": []}, {"prefix": "", "routes": [{"path": "/", "port": 1}]}, {"prefix": "x"}]}`, []string{
			`1:18: setupService: "-x" must be the name of a unit`, `appServices[0]: "a b"`, `appServices[2]: "web.service" is already used by appServices[1]`, "appServices[3]:", "appServices[4]:",
			`database: "hosT" must be one of host, container; did you mean "host"?`, "service: unknown field",
			"2:36: routes[0].port: 70000 must be from 1 to 65535", "routes[1].path:", "routes[2].path:", "routes[3].port: is required", "routes[4]:", "routes[5].path:",
			`hostSecrets[1]: "ROOT_PASSWORD" is not granted`, "hostSecrets[2]:", "extraHosts[0].prefix:", "extraHosts[1].prefix: is required", "extraHosts[2].routes: is required",
		}},
		"setup is no service": {`{"setupService": "a.target", "appServices": [], "database": "container", "routes": []}`, []string{"setupService: \"a.target\" must be a service"}},
		"seed of nothing":     {`{"setupService": "a", "seedService": "b", "appServices": [], "database": "container", "routes": []}`, []string{"seedService: fills the host's database"}},
		"seed is the setup":   {`{"setupService": "a", "seedService": "a.service", "appServices": [], "database": "host", "routes": []}`, []string{`seedService: "a.service" is already used by setupService`}},
		"seed is no service":  {`{"setupService": "a", "seedService": "b.timer", "appServices": [], "database": "host", "routes": []}`, []string{"seedService: \"b.timer\" must be a service"}},
		"database URL twice":  {`{"setupService": "a", "appServices": [], "database": "host", "routes": [], "hostSecrets": ["DATABASE_URL"]}`, []string{"hostSecrets[0]:"}},
	} {
		_, got := machineAt(t, Revision{Config: &tt.meta, StorePath: storePath})
		for _, want := range tt.want {
			if !strings.Contains(strings.Join(got, "\n"), want) {
				t.Errorf("%s: no %q in\n%s", name, want, strings.Join(got, "\n"))
			}
		}
		if name == "values" && len(got) != len(tt.want) {
			t.Errorf("%s: %d problems, want %d:\n%s", name, len(got), len(tt.want), strings.Join(got, "\n"))
		}
	}
}

// TestSeed: the Preview's own comes before the application's, in both forms, and
// is nothing to an application without a database.
func TestSeed(t *testing.T) {
	const plain, meta = "services: [{name: web, command: [serve]}]\n", `{"setupService":"setup","appServices":["web"],"routes":[],"seedService":"seed","database":"host","checkout":true}`
	for name, tt := range map[string]struct {
		config string
		own    []string
		want   string // unit
		exec   string // line of it, of those that are ours
	}{
		"preview.yaml":            {plain + "database: {seed: {command: [sow]}}\n", nil, seedUnit, "ExecStart=" + asUser + ` "sow"`},
		"preview.yaml and own":    {plain + "database: {seed: {command: [sow]}}\n", []string{"psql", "$A 1%"}, seedUnit, "ExecStart=" + asUser + ` "psql" "$$A 1%%"`},
		"own alone":               {plain + "database: {}\n", []string{"psql"}, seedUnit, "ExecStart=" + asUser + ` "psql"`},
		"no database":             {plain, []string{"psql"}, "", ""},
		"system":                  {meta, nil, "seed.service", ""},
		"system and own":          {meta, []string{"psql", "$A 1%"}, seedUnit, `ExecStart=/usr/bin/env -- "psql" "$$A 1%%"`},
		"own for a system":        {strings.Replace(meta, `"seedService":"seed",`, "", 1), []string{"psql"}, seedUnit, "WorkingDirectory=" + Checkout},
		"without the checkout":    {strings.Replace(meta, `,"checkout":true`, "", 1), []string{"psql"}, seedUnit, "WorkingDirectory=~"},
		"system, no database":     {`{"setupService":"setup","appServices":["web"],"routes":[],"database":"container"}`, []string{"psql"}, "", ""},
		"system without any seed": {strings.Replace(meta, `"seedService":"seed",`, "", 1), nil, "", ""},
	} {
		p, h := example(t)
		r := Revision{Commit: strings.Repeat("ab", 20), Dir: "/var/lib/tekton/checkouts/x", Config: &tt.config}
		if strings.HasPrefix(tt.config, "{") {
			r.StorePath = storePath
		}
		if tt.own != nil {
			p.Spec.Database.Seed = &v1alpha1.PreviewSetup{Command: tt.own}
			p.Default(h)
		}
		s, problems := Machine(p.Machine(), h, r)
		if len(problems) > 0 || s.Setup.Seed != tt.want {
			t.Errorf("%s: %q %v", name, s.Setup.Seed, problems)
			continue
		}
		unit := ""
		for _, f := range s.Setup.Files {
			if f.Path == unitDir+seedUnit {
				unit = f.Content
			}
		}
		if (tt.exec == "") != (unit == "") || !strings.Contains("\n"+unit, "\n"+tt.exec+"\n") && tt.exec != "" {
			t.Errorf("%s: want %q in the unit\n%s", name, tt.exec, unit)
		}
	}
}

// least expects nothing that no preview may have.
func least(t testing.TB, s *v1alpha1.ContainerSpec) {
	t.Helper()
	if s.Trust != "untrusted" || len(s.Mounts) > 0 || len(s.Capabilities) > 0 || len(s.Network.Ports) > 0 || len(s.Network.Links) > 0 {
		t.Fatalf("more than any preview may have: %+v", s)
	}
	for _, r := range s.Routes {
		if !strings.HasSuffix(r.Host, "shop-main.preview.example.org") {
			t.Fatalf("route on %s", r.Host)
		}
	}
}

// FuzzMachine: a stranger's file is refused or understood, and nothing that it
// says reaches a unit but quoted.
func FuzzMachine(f *testing.F) {
	f.Add(full)
	f.Add(fullMeta)
	f.Add("services: [{name: a, command: [\"\\n[Service]\\nUser=root\", '%n $A \\']}]")
	f.Fuzz(func(t *testing.T, config string) {
		s, problems := machine(t, config)
		built, wrong := machineAt(t, Revision{Config: &config, StorePath: storePath})
		if s == nil && len(problems) == 0 || built == nil && len(wrong) == 0 {
			t.Fatal("neither a machine nor a problem")
		}
		if len(wrong) == 0 {
			least(t, built)
			for _, unit := range append(built.Setup.Services, built.Setup.Unit) {
				if strings.HasPrefix(unit, "-") || strings.ContainsAny(unit, "/ \n\x00*?[") {
					t.Fatalf("unit %q", unit)
				}
			}
		}
		if len(problems) > 0 {
			return
		}
		least(t, s)
		for _, file := range s.Setup.Files {
			if file.Path == unitDir+sliceUnit && file.Content == stop().Content {
				continue // nothing of the application
			}
			for line := range strings.Lines(file.Content) {
				if strings.HasPrefix(line, "ExecStart=") == strings.HasPrefix(line, "ExecStart="+asUser+" \"") && !strings.HasPrefix(line, "User=") {
					continue
				}
				t.Fatalf("unit:\n%s", file.Content)
			}
		}
	})
}
