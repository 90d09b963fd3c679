package spec

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
)

// inside marks fields that act only inside of the object's own machine, or on
// what is its alone: any source may set them.
const inside = ""

// rule says what a source without any right gets for a field.
type rule struct {
	yaml string // lines of spec that set it, beside system and command where they lack those
	// refused is the field that the admission names; inside: none.
	refused string
	// allow is the least admission that admits it.
	allow v1alpha1.Admission
}

var trusted = v1alpha1.Admission{MaxTrust: "trusted"}

func allowPath(p string) v1alpha1.Admission {
	return v1alpha1.Admission{MaxTrust: "trusted", HostPaths: []string{p}}
}

// containerFields has every field of a Container. A new one is either inside
// or needs a rule in Needs; this table is where somebody decides.
var containerFields = map[string]rule{
	"system.host":      {"system: {host: true}", inside, v1alpha1.Admission{}},
	"system.rootfs":    {"system: {rootfs: /srv/x}", "spec.system.rootfs", v1alpha1.Admission{HostPaths: []string{"/srv"}}},
	"system.storePath": {"system: {storePath: /nix/store/a-b}", inside, v1alpha1.Admission{}}, // readable by everybody, /nix/store/NAME only
	"system.flake":     {"system: {flake: \"path:/srv/x#a\"}", "spec.system.flake", v1alpha1.Admission{Flakes: []string{"path:/srv/*"}}},
	"system.refresh":   {"system: {flake: \"path:/srv/x#a\", refresh: 1h}", "spec.system.flake", v1alpha1.Admission{Flakes: []string{"path:/srv/x#a"}}},
	"runtime":          {"runtime: nspawn", inside, v1alpha1.Admission{}},
	"command":          {"command: [sleep, inf]", inside, v1alpha1.Admission{}},
	"user":             {"user: root", inside, v1alpha1.Admission{}},
	"workingDirectory": {"workingDirectory: /", inside, v1alpha1.Admission{}},
	"environment":      {"environment: {A: b}", inside, v1alpha1.Admission{}},

	"volumes.name":              {"volumes: [{name: a, path: /a}]", inside, v1alpha1.Admission{}}, // found by kind, name and source: no other source's data
	"volumes.path":              {"volumes: [{name: a, path: /etc}]", inside, v1alpha1.Admission{}},
	"volumes.sizeMax":           {"volumes: [{name: a, path: /a, sizeMax: 1G}]", inside, v1alpha1.Admission{}},
	"volumes.deletionPolicy":    {"volumes: [{name: a, path: /a, deletionPolicy: Delete}]", inside, v1alpha1.Admission{}},
	"volumes.repository.url":    {"volumes: [{name: a, path: /a, repository: {url: \"https://git.test/team/a\"}}]", "spec.volumes[0].repository.url", v1alpha1.Admission{Repositories: []string{"https://git.test/team/*"}}},
	"volumes.repository.ref":    {"volumes: [{name: a, path: /a, repository: {url: \"https://git.test/a\", ref: x}}]", "spec.volumes[0].repository.url", v1alpha1.Admission{Repositories: []string{"https://git.test/a"}}},
	"volumes.repository.user":   {"volumes: [{name: a, path: /a, repository: {url: \"https://git.test/a\", user: \"1000\"}}]", "spec.volumes[0].repository.url", v1alpha1.Admission{Repositories: []string{"https://git.test/a"}}},
	"volumes.repository.secret": {"volumes: [{name: a, path: /a, repository: {url: \"https://git.test/a\", secret: key}}]", "spec.volumes[0].repository.url", v1alpha1.Admission{Repositories: []string{"https://git.test/a"}, Secrets: []string{"key"}}},

	"databases.name":           {"databases: [{name: a}]", inside, v1alpha1.Admission{}},
	"databases.env":            {"databases: [{name: a, env: URL}]", inside, v1alpha1.Admission{}},
	"databases.extensions":     {"trust: trusted\n  databases: [{name: a, extensions: [plpython3u]}]", "spec.trust", trusted},
	"databases.template":       {"databases: [{name: a, template: golden}]", "spec.databases[0].template", v1alpha1.Admission{DatabaseTemplates: []string{"golden"}}},
	"databases.deletionPolicy": {"databases: [{name: a, deletionPolicy: Delete}]", inside, v1alpha1.Admission{}},

	"credentials.name":   {"credentials: [{name: key}]", "spec.credentials[0].name", v1alpha1.Admission{Secrets: []string{"key"}}},
	"credentials.secret": {"credentials: [{name: mine, secret: key}]", "spec.credentials[0].secret", v1alpha1.Admission{Secrets: []string{"key"}}},
	"credentials.path":   {"credentials: [{name: key, path: /run/key}]", "spec.credentials[0].name", v1alpha1.Admission{Secrets: []string{"key"}}},
	"credentials.env":    {"credentials: [{name: key, env: KEY}]", "spec.credentials[0].name", v1alpha1.Admission{Secrets: []string{"key"}}},

	"mounts.hostPath": {"trust: trusted\n  mounts: [{hostPath: /srv/x, path: /x}]", "spec.mounts[0].hostPath", allowPath("/srv/x")},
	"mounts.path":     {"trust: trusted\n  mounts: [{hostPath: /srv/x, path: /etc}]", "spec.mounts[0].hostPath", allowPath("/srv")},
	"mounts.readOnly": {"trust: trusted\n  mounts: [{hostPath: /srv/x, path: /x, readOnly: false}]", "spec.mounts[0].hostPath", allowPath("/")},

	"routes.host":        {"routes: [{host: a.test, port: 80}]", "spec.routes[0].host", v1alpha1.Admission{Domains: []string{"*.test"}}},
	"routes.path":        {"routes: [{host: a.test, path: /x, port: 80}]", "spec.routes[0].host", v1alpha1.Admission{Domains: []string{"a.test"}}},
	"routes.pathType":    {"routes: [{host: a.test, pathType: Exact, port: 80}]", "spec.routes[0].host", v1alpha1.Admission{Domains: []string{"a.test"}}},
	"routes.port":        {"routes: [{host: \"*.test\", port: 80}]", "spec.routes[0].host", v1alpha1.Admission{Domains: []string{"*.test"}}},
	"routes.stripPrefix": {"routes: [{host: a.test, stripPrefix: true, port: 80}]", "spec.routes[0].host", v1alpha1.Admission{Domains: []string{"a.test"}}},
	"routes.tls":         {"routes: [{host: a.test, tls: internal, port: 80}]", "spec.routes[0].host", v1alpha1.Admission{Domains: []string{"a.test"}}},

	"network.egress.mode":    {"trust: trusted\n  network: {egress: {mode: all}}", "spec.trust", trusted},
	"network.egress.allow":   {"trust: trusted\n  network: {egress: {mode: none, allow: [10.1.2.3]}}", "spec.trust", trusted},
	"network.links.to":       {"network: {links: [{to: other, port: 1}]}", "spec.network.links[0].to", v1alpha1.Admission{LinkTargets: []string{"other"}}},
	"network.links.port":     {"network: {links: [{to: other, port: 1}]}", "spec.network.links[0].to", v1alpha1.Admission{LinkTargets: []string{"*"}}},
	"network.links.protocol": {"network: {links: [{to: other, port: 1, protocol: udp}]}", "spec.network.links[0].to", v1alpha1.Admission{LinkTargets: []string{"other"}}},
	"network.ports.hostPort": {"network: {ports: [{hostPort: 8000, hostIP: 192.0.2.1}]}", "spec.network.ports[0].hostPort", v1alpha1.Admission{HostPorts: []string{"8000"}}},
	"network.ports.port":     {"network: {ports: [{hostPort: 8000, port: 22, hostIP: 192.0.2.1}]}", "spec.network.ports[0].hostPort", v1alpha1.Admission{HostPorts: []string{"8000"}}},
	"network.ports.protocol": {"network: {ports: [{hostPort: 8000, protocol: udp, hostIP: 192.0.2.1}]}", "spec.network.ports[0].hostPort", v1alpha1.Admission{HostPorts: []string{"7999-8000"}}},
	"network.ports.hostIP":   {"network: {ports: [{hostPort: 8000, hostIP: 0.0.0.0}]}", "spec.network.ports[0].hostPort", v1alpha1.Admission{HostPorts: []string{"8000"}}},

	// Limits restrict; how many objects there are is maxObjects'.
	"resources.memoryMax":  {"resources: {memoryMax: 512M}", inside, v1alpha1.Admission{}},
	"resources.memoryHigh": {"resources: {memoryHigh: 512M}", inside, v1alpha1.Admission{}},
	"resources.cpuQuota":   {"resources: {cpuQuota: 50%}", inside, v1alpha1.Admission{}},
	"resources.cpuWeight":  {"resources: {cpuWeight: 10000}", inside, v1alpha1.Admission{}},
	"resources.ioWeight":   {"resources: {ioWeight: 10000}", inside, v1alpha1.Admission{}},
	"resources.tasksMax":   {"resources: {tasksMax: 100}", inside, v1alpha1.Admission{}},
	"resources.diskMax":    {"resources: {diskMax: 1G}", inside, v1alpha1.Admission{}},

	"probe.http.path": {"probe: {http: {path: /x, port: 80}}", inside, v1alpha1.Admission{}}, // at the machine's own address
	"probe.http.port": {"probe: {http: {port: 80}}", inside, v1alpha1.Admission{}},
	"probe.tcp.port":  {"probe: {tcp: {port: 80}}", inside, v1alpha1.Admission{}},
	"probe.timeout":   {"probe: {tcp: {port: 80}, timeout: 1s}", inside, v1alpha1.Admission{}},
	"probe.deadline":  {"probe: {tcp: {port: 80}, deadline: 10s}", inside, v1alpha1.Admission{}},
	"probe.interval":  {"probe: {tcp: {port: 80}, interval: 10s}", inside, v1alpha1.Admission{}},

	"ttl":             {"ttl: 8h", inside, v1alpha1.Admission{}}, // ends only itself
	"sleepAfter":      {"sleepAfter: 1h\n  routes: [{host: web.test, port: 80}]", "spec.routes[0].host", v1alpha1.Admission{Domains: []string{"web.test"}}},
	"restartPolicy":   {"restartPolicy: Always", inside, v1alpha1.Admission{}},
	"stopTimeout":     {"stopTimeout: 1h", inside, v1alpha1.Admission{}}, // delays its own end only
	"update.strategy": {"update: {strategy: Recreate}", inside, v1alpha1.Admission{}},
	"enabled":         {"enabled: false", inside, v1alpha1.Admission{}},
	"reason":          {"enabled: false\n  reason: x", inside, v1alpha1.Admission{}},
	"paused":          {"paused: true", inside, v1alpha1.Admission{}},
	"dependsOn":       {"dependsOn: [other]", inside, v1alpha1.Admission{}}, // delays its own start only
	"ephemeral":       {"ephemeral: true", inside, v1alpha1.Admission{}},
	"trust":           {"trust: trusted", "spec.trust", trusted},
	"capabilities":    {"trust: trusted\n  capabilities: [CAP_NET_ADMIN]", "spec.trust", trusted},
	"userNamespace":   {"trust: trusted\n  userNamespace: false", "spec.trust", trusted},
	"placement.host":  {"placement: {host: other}", inside, v1alpha1.Admission{}}, // its own object elsewhere
}

// agentFields has every field of an Agent; what it shares with a Container needs the same.
var agentFields = alike(reflect.TypeFor[v1alpha1.AgentSpec](), map[string]rule{
	"user":                {"user: me", inside, v1alpha1.Admission{}},
	"sshKeys":             {"sshKeys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKfUo1M8jy/vTqCLYpSTQKdlVhKVScr2jEQWOUmIFhUe]", inside, v1alpha1.Admission{}}, // of its own machine
	"home.sizeMax":        {"home: {sizeMax: 1G}", inside, v1alpha1.Admission{}},
	"home.deletionPolicy": {"home: {deletionPolicy: Delete}", inside, v1alpha1.Admission{}},
	"repository.url":      {"repository: {url: \"https://git.test/team/a\"}", "spec.repository.url", v1alpha1.Admission{Repositories: []string{"https://git.test/team/*"}}},
	"repository.ref":      {"repository: {url: \"https://git.test/a\", ref: x}", "spec.repository.url", v1alpha1.Admission{Repositories: []string{"https://git.test/a"}}},
	"repository.secret":   {"repository: {url: \"https://git.test/a\", secret: key}", "spec.repository.url", v1alpha1.Admission{Repositories: []string{"https://git.test/a"}, Secrets: []string{"key"}}},
})

// alike adds the rules of a Container's fields that a spec has as well.
func alike(spec reflect.Type, own map[string]rule) map[string]rule {
	all := maps.Clone(own)
	for _, f := range leaves(spec, "") {
		r, shared := containerFields[f]
		if _, differs := own[f]; shared && !differs {
			all[f] = r
		}
	}
	return all
}

// shown is what any Preview needs: its repository and its host name.
var shown = v1alpha1.Admission{Repositories: []string{"https://git.test/*"}, Domains: []string{"a.test"}}

// ofPreview is a rule for a field that asks for nothing beyond that.
func ofPreview(yaml string) rule { return rule{yaml, "spec.repository.url", shown} }

func withSecret(yaml, refused string) rule {
	r := rule{yaml, refused, shown}
	r.allow.Secrets = []string{"key"}
	return r
}

func copies(yaml string) rule {
	r := rule{yaml, "spec.database.template", shown}
	r.allow.DatabaseTemplates = []string{"golden"}
	return r
}

// previewFields has every field of a Preview.
var previewFields = map[string]rule{
	"repository.url":          ofPreview("repository: {url: \"https://git.test/a\"}"),
	"repository.name":         {"repository: {name: a}", "spec.repository.name", v1alpha1.Admission{Repositories: []string{"a"}, Domains: []string{"a.test"}}},
	"fork":                    {"repository: {name: a}\n  fork: true", "spec.repository.name", v1alpha1.Admission{Repositories: []string{"a*"}, Domains: []string{"a.test"}}},
	"repository.secret":       withSecret("repository: {url: \"https://git.test/a\", secret: key}", "spec.repository.secret"),
	"branch":                  ofPreview("branch: x"),
	"pullRequest":             ofPreview("pullRequest: 7"),
	"commit":                  ofPreview("commit: 0123456789abcdef0123456789abcdef01234567"),
	"refresh":                 ofPreview("refresh: 10s"),
	"config":                  ofPreview("config: deploy/preview.yaml"),
	"host":                    {"host: a.test", "spec.host", shown},
	"tls":                     {"tls: internal", "spec.host", shown},
	"grants.secrets.name":     withSecret("grants: {secrets: [{name: key}]}", "spec.grants.secrets[0].name"),
	"grants.secrets.secret":   withSecret("grants: {secrets: [{name: KEY, secret: key}]}", "spec.grants.secrets[0].secret"),
	"grants.variables":        ofPreview("grants: {variables: {A: b}}"),
	"database.seed.command":   ofPreview("database: {seed: {command: [seed]}}"),
	"database.seed.timeout":   ofPreview("database: {seed: {command: [seed], timeout: 1m}}"),
	"database.template":       copies("database: {template: golden}"),
	"grants.repositoryToken":  withSecret("repository: {url: \"https://git.test/a\", secret: key}\n  grants: {repositoryToken: true}", "spec.repository.secret"),
	"database.deletionPolicy": ofPreview("database: {deletionPolicy: Retain}"),
	"egress.mode":             ofPreview("egress: {mode: none}"), // all needs trust, which no Preview has
	"egress.allow":            ofPreview("egress: {mode: none, allow: [1.1.1.1]}"),
	"resources.memoryMax":     ofPreview("resources: {memoryMax: 1G}"),
	"resources.memoryHigh":    ofPreview("resources: {memoryHigh: 1G}"),
	"resources.cpuQuota":      ofPreview("resources: {cpuQuota: 50%}"),
	"resources.cpuWeight":     ofPreview("resources: {cpuWeight: 10000}"),
	"resources.ioWeight":      ofPreview("resources: {ioWeight: 10000}"),
	"resources.tasksMax":      ofPreview("resources: {tasksMax: 10}"),
	"resources.diskMax":       ofPreview("resources: {diskMax: 1G}"),
	"ttl":                     ofPreview("ttl: 8h"),
	"sleepAfter":              ofPreview("sleepAfter: 1h"),
	"rebuild":                 ofPreview("rebuild: 1"),
	"enabled":                 ofPreview("enabled: false"),
	"reason":                  ofPreview("reason: later"),
	"paused":                  ofPreview("paused: true"),
}

// fetched is what any Repository needs.
var fetched = v1alpha1.Admission{Repositories: []string{"https://git.test/a"}}

func ofRepository(yaml string) rule { return rule{yaml, "spec.url", fetched} }

func withGrant(yaml, refused string) rule {
	r := rule{yaml, refused, fetched}
	r.allow.Secrets = []string{"key"}
	return r
}

// repositoryFields has every field of a Repository.
var repositoryFields = map[string]rule{
	"url":                             ofRepository("url: https://git.test/a"),
	"secret":                          withGrant("secret: key", "spec.secret"),
	"pullRequests.bases":              ofRepository("pullRequests: {bases: [main]}"),
	"pullRequests.label":              ofRepository("pullRequests: {label: preview}"),
	"pullRequests.trigger":            ofRepository("pullRequests: {trigger: Comment}"),
	"pullRequests.drafts":             ofRepository("pullRequests: {drafts: true}"),
	"pullRequests.forks":              ofRepository("pullRequests: {forks: Approved}"),
	"pullRequests.max":                ofRepository("pullRequests: {max: 3}"),
	"preview.config":                  ofRepository("preview: {config: a.yaml}"),
	"preview.tls":                     ofRepository("preview: {tls: internal}"),
	"preview.grants.secrets.name":     withGrant("preview: {grants: {secrets: [{name: key}]}}", "spec.preview.grants.secrets[0].name"),
	"preview.grants.secrets.secret":   withGrant("preview: {grants: {secrets: [{name: KEY, secret: key}]}}", "spec.preview.grants.secrets[0].secret"),
	"preview.grants.repositoryToken":  withGrant("url: \"https://git.test/a\"\n  secret: key\n  preview: {grants: {repositoryToken: true}}", "spec.secret"),
	"preview.grants.variables":        ofRepository("preview: {grants: {variables: {A: b}}}"),
	"preview.database.seed.command":   ofRepository("preview: {database: {seed: {command: [seed]}}}"),
	"preview.database.seed.timeout":   ofRepository("preview: {database: {seed: {command: [seed], timeout: 1m}}}"),
	"preview.database.template":       {"preview: {database: {template: golden}}", "spec.preview.database.template", v1alpha1.Admission{Repositories: []string{"https://git.test/*"}, DatabaseTemplates: []string{"golden"}}},
	"preview.database.deletionPolicy": ofRepository("preview: {database: {deletionPolicy: Retain}}"),
	"preview.egress.mode":             ofRepository("preview: {egress: {mode: none}}"),
	"preview.egress.allow":            ofRepository("preview: {egress: {allow: [1.1.1.1]}}"),
	"preview.resources.memoryMax":     ofRepository("preview: {resources: {memoryMax: 1G}}"),
	"preview.resources.memoryHigh":    ofRepository("preview: {resources: {memoryHigh: 1G}}"),
	"preview.resources.cpuQuota":      ofRepository("preview: {resources: {cpuQuota: 50%}}"),
	"preview.resources.cpuWeight":     ofRepository("preview: {resources: {cpuWeight: 10000}}"),
	"preview.resources.ioWeight":      ofRepository("preview: {resources: {ioWeight: 10000}}"),
	"preview.resources.tasksMax":      ofRepository("preview: {resources: {tasksMax: 10}}"),
	"preview.resources.diskMax":       ofRepository("preview: {resources: {diskMax: 1G}}"),
	"preview.ttl":                     ofRepository("preview: {ttl: 8h}"),
	"preview.sleepAfter":              ofRepository("preview: {sleepAfter: 1h}"),
}

// fieldsByKind is the table that a new kind enters.
var fieldsByKind = map[string]map[string]rule{
	v1alpha1.KindContainer: containerFields, v1alpha1.KindAgent: agentFields, v1alpha1.KindPreview: previewFields, v1alpha1.KindRepository: repositoryFields,
}

// usual is what an example has beside what it is about.
var usual = map[string][]string{
	v1alpha1.KindContainer:  {"system: {host: true}", "command: [sleep, inf]"},
	v1alpha1.KindAgent:      {"system: {host: true}"},
	v1alpha1.KindPreview:    {"repository: {url: \"https://git.test/a\"}", "host: a.test"},
	v1alpha1.KindRepository: {"url: https://git.test/a"},
}

// leaves are the paths of all fields of a spec, as in YAML.
func leaves(t reflect.Type, at string) []string {
	switch {
	case t.Kind() == reflect.Pointer, t.Kind() == reflect.Slice:
		return leaves(t.Elem(), at)
	case t.Kind() != reflect.Struct, t == reflect.TypeFor[v1alpha1.Quantity](), t == reflect.TypeFor[v1alpha1.Duration]():
		return []string{at}
	}
	var out []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		switch {
		case t.Field(i).Anonymous:
			out = append(out, leaves(t.Field(i).Type, at)...)
			continue
		case name == "-":
			continue // no part of a document
		}
		out = append(out, leaves(t.Field(i).Type, strings.TrimPrefix(at+"."+name, "."))...)
	}
	return out
}

func (r rule) text(kind string) string {
	spec, usuals := r.yaml, usual[kind]
	if kind == v1alpha1.KindPreview && !strings.Contains(spec, "pullRequest") {
		usuals = append(usuals, "branch: main")
	}
	for _, usual := range usuals {
		if name, _, _ := strings.Cut(usual, " "); !strings.Contains(spec, name) {
			spec = usual + "\n  " + spec
		}
	}
	return strings.Replace(head, v1alpha1.KindContainer, kind, 1) + "  " + spec + "\n"
}

// TestEveryFieldIsAdmitted walks over all fields of all kinds: each is either
// known to be harmless and admitted from a source without any right, or refused
// from it, at its place, and admitted with the one right that it needs.
func TestEveryFieldIsAdmitted(t *testing.T) {
	for _, kind := range v1alpha1.Kinds() {
		typ, _ := typeOf(kind)
		spec, _ := typ.FieldByName("Spec")
		fields := leaves(spec.Type, "")
		for _, f := range fields {
			if _, listed := fieldsByKind[kind][f]; !listed {
				t.Errorf("%s spec.%s is new: say in Needs what a source must be allowed to set it, or list it as inside", kind, f)
			}
		}
		for _, f := range slices.Sorted(maps.Keys(fieldsByKind[kind])) {
			t.Run(kind+"/"+f, func(t *testing.T) {
				if !slices.Contains(fields, f) {
					t.Fatal("there is no such field")
				}
				fieldsByKind[kind][f].check(t, kind, f)
			})
		}
	}
}

func (r rule) check(t *testing.T, kind, field string) {
	text := r.text(kind)
	last := field[strings.LastIndex(field, ".")+1:]
	if !strings.Contains(text, last+":") {
		t.Errorf("the example does not set %s:\n%s", last, text)
	}
	objects, problems := Decode("f.yaml", []byte(text), Options{})
	if len(problems) > 0 || len(objects) != 1 {
		t.Fatalf("the example is no good spec: %v\n%s", problems, text)
	}
	var got []string
	for _, p := range Admit(objects[0], &v1alpha1.Admission{}) {
		got = append(got, p.Field)
		if p.Reason != ReasonSourcePolicy || p.Line == 0 || p.Column == 0 {
			t.Errorf("problem %+v", p)
		}
	}
	if (r.refused == inside) != (len(got) == 0) || r.refused != inside && !slices.Contains(got, r.refused) {
		t.Errorf("without any right, refused are %q, want %q", got, r.refused)
	}
	if left := Admit(objects[0], &r.allow); len(left) > 0 {
		t.Errorf("with what it needs: %v", left)
	}
	// Without saying trust: trusted, a relaxation is refused as such.
	if without := strings.Replace(text, "trust: trusted\n  ", "", 1); without != text {
		if objects, problems := Decode("f.yaml", []byte(without), Options{}); len(objects) > 0 || !strings.Contains(fmt.Sprint(problems), "trust") {
			t.Errorf("untrusted, it is accepted: %v", problems)
		}
	}
}

// TestEveryRightIsNeeded: each field of the admission refuses something when it
// is not given, so that none is there for show. maxObjects is counted by the engine.
func TestEveryRightIsNeeded(t *testing.T) {
	used := map[string]bool{"Kinds": true, "MaxObjects": true} // TestAdmit; the end-to-end test of sources
	for kind, fields := range fieldsByKind {
		for name, r := range fields {
			v := reflect.ValueOf(r.allow)
			for i := range v.NumField() {
				if v.Field(i).IsZero() {
					continue
				}
				used[v.Type().Field(i).Name] = true
				less := r.allow
				reflect.ValueOf(&less).Elem().Field(i).SetZero()
				objects, _ := Decode("f.yaml", []byte(r.text(kind)), Options{})
				if len(Admit(objects[0], &less)) == 0 {
					t.Errorf("%s is admitted without %s", name, v.Type().Field(i).Name)
				}
			}
		}
	}
	for i := range reflect.TypeFor[v1alpha1.Admission]().NumField() {
		if f := reflect.TypeFor[v1alpha1.Admission]().Field(i).Name; !used[f] {
			t.Errorf("no field of a spec needs allow.%s", f)
		}
	}
}

// TestNearMisses are values just beside what is allowed.
func TestNearMisses(t *testing.T) {
	allow := v1alpha1.Admission{
		MaxTrust: "trusted", Domains: []string{"preview.test", "*.preview.test"}, LinkTargets: []string{"cache"}, Secrets: []string{"key"},
		HostPaths: []string{"/srv/roots"}, HostPorts: []string{"8000-8010"},
	}
	for name, yaml := range map[string]string{
		"sibling of the directory": "system: {rootfs: /srv/roots2}",
		"directory above":          "trust: trusted\n  mounts: [{hostPath: /srv, path: /x}]",
		"domain above":             "routes: [{host: test, port: 80}]",
		"domain that ends alike":   "routes: [{host: evilpreview.test, port: 80}]",
		"two labels below":         "routes: [{host: a.b.preview.test, port: 80}]",
		"all names above":          "routes: [{host: \"*.test\", port: 80}]",
		"second route":             "routes: [{host: preview.test, port: 80}, {host: a.test, port: 80}]",
		"second link":              "network: {links: [{to: cache, port: 1}, {to: db, port: 1}]}",
		"name instead of secret":   "credentials: [{name: key, secret: key2}]",
		"port below":               "network: {ports: [{hostPort: 7999, hostIP: 0.0.0.0}]}",
		"port above":               "network: {ports: [{hostPort: 8011, hostIP: 0.0.0.0}]}",
	} {
		r := rule{yaml: yaml}
		objects, problems := Decode("f.yaml", []byte(r.text(v1alpha1.KindContainer)), Options{})
		if len(objects) != 1 {
			t.Errorf("%s: %v", name, problems)
		} else if len(Admit(objects[0], &allow)) != 1 {
			t.Errorf("%s: problems %v, want one", name, Admit(objects[0], &allow))
		}
	}
	for name, yaml := range map[string]string{"dots": "system: {rootfs: /srv/roots/../x}", "double slash": "system: {rootfs: /srv/roots//x}"} {
		if objects, _ := Decode("f.yaml", []byte(rule{yaml: yaml}.text(v1alpha1.KindContainer)), Options{}); len(objects) > 0 {
			t.Errorf("%s: a path that is not clean is accepted", name)
		}
	}
}

// TestAdmittedRepositories: an entry for addresses admits no name of a Repository,
// and none for names an address.
func TestAdmittedRepositories(t *testing.T) {
	const name, url = "spec: {repository: {name: shop}, branch: main, host: a.test}", `spec: {repository: {url: "https://git.test/shop"}, branch: main, host: a.test}`
	for _, tt := range []struct {
		allow      string
		named, url bool
	}{
		{"", false, false}, {"*", true, true},
		{"shop", true, false}, {"sh*", true, false}, {"shop2", false, false}, {"sho", false, false}, {"shop-*", false, false},
		{"h*", false, false}, {"https*", false, false},
		{"https://git.test/shop", false, true}, {"https://git.test/*", false, true}, {"https://*", false, true},
	} {
		allow := &v1alpha1.Admission{Domains: []string{"a.test"}, Repositories: []string{tt.allow}}
		for text, want := range map[string]bool{name: tt.named, url: tt.url} {
			objects, problems := Decode("f.yaml", []byte("apiVersion: tekton.host/v1alpha1\nkind: Preview\nmetadata: {name: a}\n"+text+"\n"), Options{})
			if len(objects) != 1 {
				t.Fatal(problems)
			}
			if refused := Admit(objects[0], allow); (len(refused) == 0) != want {
				t.Errorf("allow.repositories %q, %s: %v", tt.allow, text, refused)
			}
		}
	}
}
