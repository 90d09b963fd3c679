package v1alpha1

import (
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// PreviewMeta is what the system.build.previewMeta of a preview-config.nix
// holds, as JSON: what an application consists of whose system is its own. It
// asks for what a preview.yaml may ask for, and nothing else.
type PreviewMeta struct {
	// SetupService is a oneshot unit of the system that runs for each commit before the services start.
	SetupService string `json:"setupService"`
	// SeedService is a oneshot unit of the system that runs once for the host's database, after the setup of a commit and before the services start.
	SeedService string `json:"seedService,omitempty"`
	// AppServices are units of the system, started in this order after the setup.
	AppServices []string `json:"appServices"`
	// Database is host for a PostgreSQL database of this host (DATABASE_URL), container where the system has its own, or none.
	Database string `json:"database" enum:"host,container"`
	// Routes to the services: path "/" for all, "/PATH/*" for a path and all below it, "/PATH" for it alone.
	Routes []PreviewMetaRoute `json:"routes"`
	// HostSecrets of those that the Preview grants; each becomes the variable of its name.
	HostSecrets []string `json:"hostSecrets,omitempty"`
	// ExtraHosts have a host name of their own: PREFIX-NAME.DOMAIN.
	ExtraHosts []PreviewMetaHost `json:"extraHosts,omitempty"`
	// Checkout true has the host put the commit's files into app, below the home of the user preview, before the setup runs: it need not clone.
	Checkout bool `json:"checkout,omitempty"`
}

// PreviewMetaRoute is one path.
type PreviewMetaRoute struct {
	Path        string `json:"path"`
	Port        int    `json:"port" min:"1" max:"65535"`
	StripPrefix bool   `json:"stripPrefix,omitempty"`
}

// PreviewMetaHost is one further host name.
type PreviewMetaHost struct {
	Prefix string             `json:"prefix"`
	Routes []PreviewMetaRoute `json:"routes"`
}

// File is what a preview.yaml would say of the same application, but for its
// base, setup and services.
func (m *PreviewMeta) File() *PreviewFile {
	f := &PreviewFile{Secrets: m.HostSecrets}
	for _, r := range m.Routes {
		f.Routes = append(f.Routes, r.route(""))
	}
	for _, h := range m.ExtraHosts {
		for _, r := range h.Routes {
			f.Routes = append(f.Routes, r.route(h.Prefix))
		}
	}
	if m.Database == "host" {
		f.Database = &PreviewFileDatabase{Env: databaseEnv}
	}
	return f
}

// route reads the path's pattern: one that ends with /* means all below.
func (r PreviewMetaRoute) route(hostPrefix string) PreviewRoute {
	below, all := strings.CutSuffix(r.Path, "/*")
	out := PreviewRoute{Path: r.Path, PathType: "Exact", Port: r.Port, StripPrefix: r.StripPrefix, HostPrefix: hostPrefix}
	switch {
	case r.Path == "/" || below == "" && all:
		out.Path, out.PathType, out.StripPrefix = "/", "Prefix", false
	case all || r.StripPrefix:
		out.Path, out.PathType = below, "Prefix"
	}
	return out
}

// Units are the setup's, the seed's, if there is one, and the services', as
// systemd calls them.
func (m *PreviewMeta) Units() (setup, seed string, services []string) {
	for _, name := range m.AppServices {
		services = append(services, unitName(name))
	}
	if m.SeedService != "" {
		seed = unitName(m.SeedService)
	}
	return unitName(m.SetupService), seed, services
}

var (
	unitPattern  = regexp.MustCompile(`^[A-Za-z0-9:_.@][A-Za-z0-9:_.@-]*$`)
	unitSuffixes = []string{".service", ".target", ".socket", ".timer", ".path"}
)

// maxUnit is systemd's.
const maxUnit = 255

func unitName(name string) string {
	if slices.Contains(unitSuffixes, path.Ext(name)) {
		return name
	}
	return name + ".service"
}

// Validate reports everything that is wrong on a host, for a preview with these grants.
func (m *PreviewMeta) Validate(h *HostSpec, grants PreviewGrants) field.ErrorList {
	v := &previewFileCheck{file: m.File(), host: orDefaultHost(h), env: unique{}}
	v.tags(reflect.ValueOf(*m), nil)
	v.units(m)
	v.database(field.NewPath("database"))
	v.metaRoutes(m)
	v.secrets(field.NewPath("hostSecrets"), grants)
	return v.errs
}

func (v *previewFileCheck) units(m *PreviewMeta) {
	setup, seed, services, names := field.NewPath("setupService"), field.NewPath("seedService"), field.NewPath("appServices"), unique{}
	if m.SetupService == "" {
		v.required(setup, "name the oneshot unit that sets the application up")
	} else {
		v.ends(setup, m.SetupService, names)
	}
	if m.SeedService != "" && v.ends(seed, m.SeedService, names) && m.Database != "host" {
		v.forbidden(seed, "fills the host's database, which database: host asks for; seed one of the system's own in the setup")
	}
	if m.AppServices == nil {
		v.required(services, "name the units to start after the setup")
	}
	for i, name := range m.AppServices {
		v.unit(services.Index(i), name, names)
	}
}

// ends checks a unit whose end is waited for.
func (v *previewFileCheck) ends(p *field.Path, name string, names unique) bool {
	if !v.unit(p, name, names) {
		return false
	}
	if !strings.HasSuffix(unitName(name), ".service") {
		v.invalid(p, name, "must be a service: its end is waited for")
		return false
	}
	return true
}

func (v *previewFileCheck) unit(p *field.Path, name string, names unique) bool {
	v.unique(names, unitName(name), p)
	if !unitPattern.MatchString(name) || len(unitName(name)) > maxUnit {
		v.invalid(p, name, "must be the name of a unit: letters, digits and :_.@- only")
		return false
	}
	return true
}

func (v *previewFileCheck) metaRoutes(m *PreviewMeta) {
	seen := unique{}
	list := func(p *field.Path, routes []PreviewMetaRoute, prefix string) {
		if routes == nil {
			v.required(p, "name the paths and their ports")
		}
		for i, r := range routes {
			v.route(p.Index(i), r.route(prefix), seen)
		}
	}
	list(field.NewPath("routes"), m.Routes, "")
	for i, h := range m.ExtraHosts {
		p := field.NewPath("extraHosts").Index(i)
		v.hostPrefix(p.Child("prefix"), h.Prefix)
		list(p.Child("routes"), h.Routes, h.Prefix)
	}
}
