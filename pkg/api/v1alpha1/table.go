package v1alpha1

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Row is one default.
type Row struct {
	Field   string // spec.routes[].path
	Default string // what Default writes into an object that says nothing
	Note    string // where the value depends on something
}

// defaultNotes say what a default that is not constant depends on.
var defaultNotes = map[string]map[string]string{
	KindContainer: {
		"spec.user":                 "only with command",
		"spec.workingDirectory":     "only with command",
		"spec.databases[0].env":     "the first database",
		"spec.databases[].env":      "every other database: NAME in upper case",
		"spec.credentials[].secret": "the credential's name",
		"spec.credentials[].path":   "NAME is the credential's; only without env",
		"spec.routes[].tls":         "Host spec.ingress.tls",
		"spec.network.ports[].port": "the hostPort",
		"spec.probe.tcp.port":       "the first route's port; without routes and probe, running on is enough",
		"spec.probe.timeout":        "where there is a probe",
		"spec.probe.deadline":       "where there is a probe",
		"spec.probe.http.path":      "where the probe is http",
	},
	KindAgent: {
		"spec.databases[0].env":     "the first database",
		"spec.databases[].env":      "every other database: NAME in upper case",
		"spec.credentials[].secret": "the credential's name",
		"spec.credentials[].path":   "NAME is the credential's; only without env",
		"spec.routes[].tls":         "Host spec.ingress.tls",
		"spec.network.ports[].port": "the hostPort",
	},
	KindPreview: {
		"spec.host":                    "NAME is the object's, DOMAIN Host spec.previews.domain",
		"spec.tls":                     "Host spec.ingress.tls",
		"spec.grants.secrets[].secret": "the name",
	},
	KindRepository: {
		"spec.preview.tls":                     "Host spec.ingress.tls",
		"spec.preview.grants.secrets[].secret": "the name",
	},
	KindHost: {
		"spec.stateDir":                    "/var/lib/tekton-INSTANCE with an instance",
		"spec.runDir":                      "/run/tekton-INSTANCE with an instance",
		"spec.secretsDir":                  "below stateDir",
		"spec.subnet":                      "with an instance 10.N.0.0/16, N from 101 to 250 by its name",
		"spec.ingress.tls":                 "off where httpsPort is 0",
		"spec.postgres.connectionLimit":    "at most a quarter of maxConnections",
		"spec.sources[].name":              "without sources: one that may do everything",
		"spec.sources[].path":              "below stateDir",
		"spec.sources[].allow.maxTrust":    "where there is allow",
		"spec.notifications[].user":        "only with command",
		"spec.sources[].git.branch":        "where there is git",
		"spec.sources[].git.interval":      "where there is git",
		"spec.sources[].git.timeout":       "where there is git",
		"spec.sources[].git.maxSize":       "where there is git",
		"spec.sources[].git.auth.username": "where there is a tokenFile",
	},
}

// DefaultsTable lists every default of a kind. It is made by defaulting
// samples that only hold what is required, so it cannot differ from what
// Default does. An unknown kind has no rows.
func DefaultsTable(kind string) []Row {
	rows := map[string]string{}
	switch kind {
	case KindContainer:
		for _, c := range containerSamples() {
			before := flatten(c)
			c.Default(nil)
			collect(rows, before, flatten(c))
		}
	case KindAgent:
		a := agentSample()
		before := flatten(a)
		a.Default(nil)
		collect(rows, before, flatten(a))
	case KindPreview:
		h := DefaultHost()
		h.Spec.Previews.Domain = "DOMAIN"
		p := &Preview{Metadata: ObjectMeta{Name: "NAME"}, Spec: PreviewSpec{PreviewTemplate: previewSample()}}
		before := flatten(p)
		p.Default(&h.Spec)
		collect(rows, before, flatten(p))
	case KindRepository:
		r := &Repository{Spec: RepositorySpec{Preview: previewSample()}}
		before := flatten(r)
		r.Default(nil)
		collect(rows, before, flatten(r))
	case KindHost:
		repository := SourceConfig{Name: "NAME", Git: &GitSource{URL: "URL", Auth: GitAuth{TokenFile: "/PATH"}}}
		for _, h := range []*Host{{}, {Spec: HostSpec{
			Sources:       []SourceConfig{{Name: "NAME", Path: "/PATH", Allow: &Admission{}}, repository},
			Notifications: []Notification{{Name: "NAME", Command: []string{"PROGRAM"}}},
		}}} {
			before := flatten(h)
			h.Default()
			collect(rows, before, flatten(h))
		}
	}
	var table []Row
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		table = append(table, Row{Field: name, Default: rows[name], Note: defaultNotes[kind][name]})
	}
	return table
}

func containerSamples() []*Container {
	return []*Container{{
		Spec: ContainerSpec{
			Command:     []string{"PROGRAM"},
			Volumes:     []Volume{{Name: "NAME", Repository: &VolumeRepository{URL: "URL"}}},
			Databases:   []Database{{Name: "NAME"}, {Name: "NAME"}},
			Credentials: []Credential{{Name: "NAME"}},
			Mounts:      []Mount{{}},
			Routes:      []Route{{Port: 8080}},
			Network:     Network{Links: []NetworkLink{{}}, Ports: []Port{{HostPort: 8080}}},
		},
	}, {
		Spec: ContainerSpec{Probe: &Probe{HTTP: &HTTPProbe{}}},
	}}
}

func agentSample() *Agent {
	c := containerSamples()[0].Spec
	return &Agent{Spec: AgentSpec{Databases: c.Databases, Credentials: c.Credentials, Routes: c.Routes, Network: c.Network, Repository: &AgentRepository{URL: "URL"}}}
}

func previewSample() PreviewTemplate {
	return PreviewTemplate{Grants: PreviewGrants{Secrets: []PreviewSecret{{Name: "NAME"}}}}
}

// collect adds what Default wrote. Items of a list count as one, except for a
// first one whose default differs from the others'.
func collect(rows, before, after map[string]string) {
	for name, value := range after {
		if old, was := before[name]; (was && old == value) || strings.HasPrefix(value, "null") {
			continue
		}
		first := name
		general := strings.NewReplacer("[0]", "[]", "[1]", "[]").Replace(name)
		other, more := after[strings.Replace(name, "[0]", "[1]", 1)]
		if strings.Contains(name, "[0]") && more && other != value {
			rows[first] = value
			continue
		}
		rows[general] = value
	}
}

// flatten maps the path of every scalar of v to its value.
func flatten(v any) map[string]string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types always marshal
	}
	var tree any
	if err := json.Unmarshal(data, &tree); err != nil {
		panic(err)
	}
	leaves := map[string]string{}
	flattenInto(leaves, "", tree)
	return leaves
}

func flattenInto(leaves map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, child := range v {
			flattenInto(leaves, strings.TrimPrefix(path+"."+name, "."), child)
		}
	case []any:
		for i, child := range v {
			flattenInto(leaves, fmt.Sprintf("%s[%d]", path, i), child)
		}
	default:
		leaves[path] = fmt.Sprint(v)
	}
}
