package migrate

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"tekton.host/pkg/api/v1alpha1"
)

// located is a value with the line that it is on.
type located[T any] struct {
	value T
	line  int
}

func (l *located[T]) UnmarshalYAML(n *yaml.Node) error {
	l.line = n.Line
	return n.Decode(&l.value)
}

// meta is the previewMeta of a preview, SLUG.meta. It is JSON, which is YAML.
type meta struct {
	SetupService located[string]      `yaml:"setupService"`
	AppServices  []located[string]    `yaml:"appServices"`
	Database     located[string]      `yaml:"database"`
	Routes       []located[metaRoute] `yaml:"routes"`
	HostSecrets  []located[string]    `yaml:"hostSecrets"`
	ExtraHosts   []struct {
		Prefix located[string]      `yaml:"prefix"`
		Routes []located[metaRoute] `yaml:"routes"`
	} `yaml:"extraHosts"`
}

type metaRoute struct {
	Path        string `yaml:"path"`
	Port        int    `yaml:"port"`
	StripPrefix bool   `yaml:"stripPrefix"`
}

// previews are those of preview.sh.
func (r *reader) previews() error {
	return r.tracked(previewsDir, r.preview)
}

func (r *reader) preview(c *Container, file string, fields []string) {
	host := c.Name + "." + r.Domain
	env := map[string]string{"PREVIEW_HOST": host, "PREVIEW_URL": "https://" + host}
	if len(fields) >= 5 {
		env["PREVIEW_REPO_URL"], env["PREVIEW_BRANCH"] = "https://github.com/"+fields[3]+".git", fields[4]
		c.take("/"+file+":1", "repository %s and branch %s, as the variables that its setup reads", fields[3], fields[4])
	} else {
		c.leave("/"+file+":1", "it names no repository and branch")
	}
	c.Object.Spec.Environment = env
	c.leave("/"+path.Join(rootsDir, c.Name, "etc/preview-token"), "the token is not renewed by anybody; give the machine a credential of its own where it needs one")
	m, at, ok := r.meta(c)
	if !ok {
		return
	}
	r.routes(c, at, host, m.Routes)
	for _, x := range m.ExtraHosts {
		r.routes(c, at, x.Prefix.value+"-"+host, x.Routes)
	}
	r.secrets(c, at, m)
	r.database(c, at, m)
	var units []string
	for _, s := range append([]located[string]{m.SetupService}, m.AppServices...) {
		if s.value != "" {
			units = append(units, s.value)
		}
	}
	if len(units) > 0 {
		c.leave(at(m.SetupService.line), "%s: the script starts these from outside, in this order; let the system start them itself (wantedBy, after)", strings.Join(units, ", "))
	}
}

// meta reads SLUG.meta; at is the place of a line in it.
func (r *reader) meta(c *Container) (m meta, at func(line int) string, ok bool) {
	file := path.Join(previewsDir, c.Name+".meta")
	at = func(line int) string { return fmt.Sprintf("/%s:%d", file, max(line, 1)) }
	data, err := fs.ReadFile(r.Root, file)
	if err == nil {
		err = yaml.Unmarshal(data, &m)
	}
	if err != nil {
		c.leave("/"+file, "routes, database and secrets are not known: %v", err)
	}
	return m, at, err == nil
}

func (r *reader) routes(c *Container, at func(int) string, host string, routes []located[metaRoute]) {
	for _, l := range routes {
		p, prefix := strings.CutSuffix(l.value.Path, "/*")
		route := v1alpha1.Route{Host: host, Path: "/" + strings.TrimPrefix(p, "/"), Port: l.value.Port, StripPrefix: l.value.StripPrefix}
		if route.Path != "/" && !prefix {
			route.PathType = "Exact" // as Caddy matches it
		}
		if strings.Contains(route.Path, "*") || route.Port < 1 || route.Port > 65535 {
			c.leave(at(l.line), "route %s%s to port %d: a path may end in /* and has no other *, and a port is 1 to 65535", host, l.value.Path, l.value.Port)
			continue
		}
		c.Object.Spec.Routes = append(c.Object.Spec.Routes, route)
		c.take(at(l.line), "route %s%s to port %d", host, l.value.Path, route.Port)
	}
}

// variable is what may stand in a command that a person will paste.
var variable = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)

func (r *reader) secrets(c *Container, at func(int) string, m meta) {
	for _, s := range m.HostSecrets {
		if !variable.MatchString(s.value) {
			c.leave(at(s.line), "secret %q: that is no name of a variable", s.value)
			continue
		}
		name := label(s.value)
		c.Object.Spec.Credentials = append(c.Object.Spec.Credentials, v1alpha1.Credential{Name: name, Env: s.value})
		c.take(at(s.line), "secret %s, as the variable of that name; its value stays where it is until you hand it over", s.value)
		// A shell reads the file, as the script's does: quotes, and the last of two.
		c.Steps = append(c.Steps, fmt.Sprintf(`(. /%s; printf %%s "$%s") | tekton secret set %s`, secretsFile, s.value, name))
	}
}

// database: preview_SLUG of the host's own PostgreSQL.
func (r *reader) database(c *Container, at func(int) string, m meta) {
	if m.Database.value != "host" {
		return
	}
	old := "preview_" + strings.ReplaceAll(c.Name, "-", "_")
	c.Object.Spec.Databases = []v1alpha1.Database{{Name: "main"}}
	c.take(at(m.Database.line), "a database, whose URL is DATABASE_URL again; the rows of %s come by a dump, restored in the machine, which alone reaches the new one", old)
	c.database = old
}
