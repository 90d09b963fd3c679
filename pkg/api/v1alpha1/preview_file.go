package v1alpha1

import (
	"fmt"
	"maps"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// PreviewFile is preview.yaml: what an application says, in its repository, of
// its own previews. It is data, and asks only for what any preview may have, or
// what the Preview grants.
type PreviewFile struct {
	// System is the base that the application runs on: a name of Host.spec.previews.systems; absent: the first of them.
	System string `json:"system,omitempty"`
	// Setup runs for each commit before its services start: it installs, builds, migrates.
	Setup *PreviewSetup `json:"setup,omitempty"`
	// Services are started in this order, and again when they end.
	Services []PreviewService `json:"services"`
	// Routes to the services; without one nothing is served.
	Routes []PreviewRoute `json:"routes,omitempty"`
	// Database is a PostgreSQL database of the preview; absent: none.
	Database *PreviewFileDatabase `json:"database,omitempty"`
	// Secrets of those that the Preview grants; each becomes the variable of its name.
	Secrets []string `json:"secrets,omitempty"`
	// Probe says when the application answers; absent: a connection to the first route's port.
	Probe *Probe `json:"probe,omitempty"`
}

// PreviewSetup is a command that is to come to an end.
type PreviewSetup struct {
	// Command as a list, run in the checkout; a program without a slash is looked up in PATH.
	Command []string `json:"command"`
	// Timeout of one try.
	Timeout *Duration `json:"timeout,omitempty"`
}

// PreviewService is one process of the application.
type PreviewService struct {
	// Name is a DNS label, unique in the file.
	Name string `json:"name"`
	// Command as a list; a program without a slash is looked up in PATH.
	Command []string `json:"command"`
	// Environment beside that of the preview.
	Environment map[string]string `json:"environment,omitempty"`
	// WorkingDirectory below the checkout; absent: the checkout itself.
	WorkingDirectory string `json:"workingDirectory,omitempty"`
}

// PreviewRoute is one path of the preview's URL.
type PreviewRoute struct {
	// Path that requests start with, or equal.
	Path string `json:"path,omitempty"`
	// PathType: Prefix matches the path and all below it, Exact only the path itself.
	PathType string `json:"pathType,omitempty" enum:"Prefix,Exact"`
	// Port that a service listens on.
	Port int `json:"port" min:"1" max:"65535"`
	// StripPrefix removes the path before the service sees the request.
	StripPrefix bool `json:"stripPrefix,omitempty"`
	// HostPrefix serves the route under a host name of its own: HOSTPREFIX-NAME.DOMAIN.
	HostPrefix string `json:"hostPrefix,omitempty"`
}

// PreviewFileDatabase is the database that an application asks for.
type PreviewFileDatabase struct {
	// Env is the variable that gets the URL.
	Env string `json:"env,omitempty"`
	// Extensions to create, of those that PostgreSQL calls trusted.
	Extensions []string `json:"extensions,omitempty"`
	// Seed runs once for the database, after the setup of a commit and before its services start.
	Seed *PreviewSetup `json:"seed,omitempty"`
}

const (
	defaultSetupTimeout = 10 * time.Minute
	maxHostPrefix       = 20
)

// Default fills what the file leaves open.
func (f *PreviewFile) Default() {
	f.Setup.setDefaults()
	for i := range f.Routes {
		setDefault(&f.Routes[i].Path, "/")
		setDefault(&f.Routes[i].PathType, "Prefix")
	}
	if f.Database != nil {
		setDefault(&f.Database.Env, databaseEnv)
		f.Database.Seed.setDefaults()
	}
}

func (s *PreviewSetup) setDefaults() {
	if s != nil {
		setPointer(&s.Timeout, Duration{defaultSetupTimeout})
	}
}

// Validate reports everything that is wrong with a defaulted file on a host,
// for a preview with these grants.
func (f *PreviewFile) Validate(h *HostSpec, grants PreviewGrants) field.ErrorList {
	v := &previewFileCheck{file: f, host: orDefaultHost(h), env: unique{}}
	v.tags(reflect.ValueOf(*f), nil)
	v.base()
	v.setup()
	v.services()
	v.fileRoutes()
	v.database(field.NewPath("database"))
	v.secrets(field.NewPath("secrets"), grants)
	v.probe(field.NewPath("probe"), f.Probe, len(f.Routes) > 0)
	return v.errs
}

type previewFileCheck struct {
	checker
	file *PreviewFile
	host *HostSpec
	env  unique // variables that are made of what the host has
}

func (v *previewFileCheck) base() {
	var names []string
	for _, s := range v.host.Previews.Systems {
		names = append(names, s.Name)
	}
	if name := v.file.System; name != "" && !slices.Contains(names, name) {
		v.invalid(field.NewPath("system"), name, "is not a base that this host allows, which are: %s", strings.Join(names, ", "))
	}
}

func (v *previewFileCheck) setup() {
	v.once(field.NewPath("setup"), v.file.Setup)
}

// once checks a command that is to come to an end; nil: there is none.
func (v *checker) once(p *field.Path, s *PreviewSetup) {
	if s != nil {
		v.program(p.Child("command"), s.Command)
		v.duration(p.Child("timeout"), s.Timeout, Duration{time.Second})
	}
}

// program checks a command that systemd starts by env(1).
func (v *checker) program(p *field.Path, command []string) {
	if len(command) == 0 {
		v.required(p, "write a list: [PROGRAM, ARGUMENT]")
		return
	}
	for i, arg := range command {
		if strings.ContainsRune(arg, 0) {
			v.forbidden(p.Index(i), "holds a NUL character, which no argument can have")
		}
	}
	switch first := command[0]; {
	case first == "" || hasControl(first):
		v.invalid(p.Index(0), first, "must be a program: a path, or a name that is looked up in PATH")
	case strings.Contains(first, "="):
		v.invalid(p.Index(0), first, "is no program: its name holds '='; variables go into environment")
	case strings.Contains(first, " ") && len(command) == 1:
		v.invalid(p.Index(0), first, "is one word, no shell splits it; write a list: [%s]", strings.Join(strings.Fields(first), ", "))
	}
}

func (v *previewFileCheck) services() {
	list, names := field.NewPath("services"), unique{}
	if len(v.file.Services) == 0 {
		v.required(list, "name at least one service with its command")
	}
	for i, s := range v.file.Services {
		p := list.Index(i)
		v.label(p.Child("name"), s.Name, "logs and messages name the service by it")
		v.unique(names, s.Name, p.Child("name"))
		v.program(p.Child("command"), s.Command)
		for _, name := range slices.Sorted(maps.Keys(s.Environment)) {
			v.variable(p.Child("environment").Key(name), name, s.Environment[name])
		}
		if d := s.WorkingDirectory; d != "" && !localPath(d) {
			v.invalid(p.Child("workingDirectory"), d, "must be a path below the checkout in its shortest form, such as api: letters, digits and ._@+-")
		}
	}
}

// plainPath is a path below a directory, in characters that mean nothing to
// those who read it: systemd, git, a shell.
var plainPath = regexp.MustCompile(`^[A-Za-z0-9._@+-]+(/[A-Za-z0-9._@+-]+)*$`)

func localPath(p string) bool {
	return len(p) <= maxPath && plainPath.MatchString(p) && path.Clean(p) == p && p != "." && p != ".." && !strings.HasPrefix(p, "../")
}

// variable checks a variable that a shell and systemd are to read alike.
func (c *checker) variable(p *field.Path, name, value string) {
	c.envName(p, name)
	switch {
	case strings.ContainsRune(value, 0):
		c.forbidden(p, "holds a NUL character, which no variable can have")
	case reservedVariable(name):
		c.invalid(p, name, "is set by tekton; choose another name")
	}
}

// reservedVariable reports whether tekton itself sets the variable.
func reservedVariable(name string) bool { return strings.HasPrefix(name, "PREVIEW_") }

func (v *previewFileCheck) fileRoutes() {
	list, seen := field.NewPath("routes"), unique{}
	for i, r := range v.file.Routes {
		p := list.Index(i)
		if r.HostPrefix != "" {
			v.hostPrefix(p.Child("hostPrefix"), r.HostPrefix)
		}
		v.route(p, r, seen)
	}
}

func (v *previewFileCheck) hostPrefix(p *field.Path, prefix string) {
	if v.label(p, prefix, "it begins the host name") && len(prefix) > maxHostPrefix {
		v.invalid(p, prefix, "has more than %d characters", maxHostPrefix)
	}
}

func (v *previewFileCheck) route(p *field.Path, r PreviewRoute, seen unique) {
	v.routePath(p.Child("path"), Route{Path: r.Path, PathType: r.PathType})
	v.unique(seen, strings.Join([]string{r.HostPrefix, r.PathType, r.Path}, " "), p)
}

func (v *previewFileCheck) database(p *field.Path) {
	d := v.file.Database
	if d == nil {
		return
	}
	seen := unique{}
	if v.host.Postgres.Mode == "none" {
		v.forbidden(p, "this host has no PostgreSQL (Host spec.postgres.mode is none)")
	}
	if v.envName(p.Child("env"), d.Env) {
		v.unique(v.env, d.Env, p.Child("env"))
		if reservedVariable(d.Env) {
			v.invalid(p.Child("env"), d.Env, "is set by tekton; choose another name")
		}
	}
	v.once(p.Child("seed"), d.Seed)
	for i, name := range d.Extensions {
		at := p.Child("extensions").Index(i)
		v.unique(seen, name, at)
		if !slices.Contains(trustedExtensions, name) {
			v.invalid(at, name, "is not an extension that a database's owner may create, such as pg_trgm")
		}
	}
}

func (v *previewFileCheck) secrets(list *field.Path, grants PreviewGrants) {
	var granted []string
	for _, s := range grants.Secrets {
		granted = append(granted, s.Name)
	}
	for i, name := range v.file.Secrets {
		p := list.Index(i)
		v.unique(v.env, name, p)
		if !slices.Contains(granted, name) {
			v.invalid(p, name, "is not granted to this preview (%s); its operator adds it to spec.grants.secrets", grantedWords(granted))
		}
	}
}

func grantedWords(names []string) string {
	if len(names) == 0 {
		return "nothing is"
	}
	return fmt.Sprintf("granted: %s", strings.Join(names, ", "))
}
