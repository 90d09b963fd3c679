package preview

import (
	"cmp"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/spec"
)

// MaxFile is the size of a preview.yaml.
const MaxFile = 64 << 10

// besideCommands is the time for files and services.
const besideCommands = 5 * time.Minute

// probeInterval of an application that does not say.
const probeInterval = 5 * time.Second

// Revision is what is known of a fetched commit.
type Revision struct {
	Commit string `json:"commit"`
	// Dir is the bare repository of the host that has it.
	Dir string `json:"dir"`
	// Config is the text of its preview.yaml, or what its preview-config.nix says of
	// itself (previewMeta); nil: it has none, or one that is no small regular file.
	Config *string `json:"config,omitempty"`
	// StorePath is what its preview-config.nix was built to; "": it has a preview.yaml.
	StorePath string `json:"storePath,omitempty"`
}

// Machine is what a preview asks of its machine at a revision, and what is wrong
// with that; nil: nobody can tell. base is what is known without it
// (Preview.Machine), h the defaulted host.
func Machine(base *v1alpha1.ContainerSpec, h *v1alpha1.HostSpec, r Revision) (*v1alpha1.ContainerSpec, []spec.Problem) {
	p := base.Preview
	app, problems := read(p, h, r)
	if app == nil {
		return nil, problems
	}
	s := *base
	// No command: the base's systemd boots. The user is whose the home is.
	s.System, s.User = app.system, User
	s.Databases = nil
	if d := app.file.Database; d != nil {
		s.Databases = []v1alpha1.Database{{
			Name: v1alpha1.PreviewDatabaseName, Env: d.Env, Extensions: d.Extensions,
			Template: p.Spec.Database.Template, DeletionPolicy: p.Spec.Database.DeletionPolicy,
		}}
	}
	for _, route := range app.file.Routes {
		s.Routes = append(s.Routes, v1alpha1.Route{
			Host: v1alpha1.PreviewHostName(p.Spec.Host, route.HostPrefix), Path: route.Path, PathType: route.PathType,
			Port: route.Port, StripPrefix: route.StripPrefix, TLS: p.Spec.TLS,
		})
	}
	s.Probe = app.file.Probe
	s.Setup = app.setup(p, h, r)
	// What is left open is as with any container.
	c := v1alpha1.Container{Spec: s}
	c.Default(h)
	if probe := c.Spec.Probe; probe != nil && probe.Interval == nil {
		// Its services start again without the machine: an answer of before says nothing of them.
		asked := *probe
		asked.Interval = &v1alpha1.Duration{Duration: probeInterval}
		c.Spec.Probe = &asked
	}
	return &c.Spec, problems
}

// application is what a commit's configuration says, in either form.
type application struct {
	file   *v1alpha1.PreviewFile
	system v1alpha1.System
	// meta is nil with a preview.yaml: setup and services are then the file's.
	meta *v1alpha1.PreviewMeta
}

// read reads the commit's configuration; nil: it cannot be read.
func read(p *v1alpha1.Preview, h *v1alpha1.HostSpec, r Revision) (*application, []spec.Problem) {
	path := p.Spec.Config
	if r.Config == nil {
		return nil, []spec.Problem{{Position: spec.Position{File: path}, Reason: spec.ReasonInvalidValue,
			Message: fmt.Sprintf("commit %.12s has no such file, or it is no regular file of at most %d KiB; add one to the repository: it says which services to start", r.Commit, MaxFile>>10)}}
	}
	if r.StorePath != "" {
		return readMeta(p, h, r)
	}
	var app *application
	file := &v1alpha1.PreviewFile{}
	problems := spec.DecodeFile(path, []byte(*r.Config), file, func() field.ErrorList {
		file.Default()
		app = &application{file: file, system: system(h, file.System)}
		return file.Validate(h, p.Spec.Grants)
	})
	return app, problems
}

// system is the base of a name, else the first that the host allows.
func system(h *v1alpha1.HostSpec, name string) v1alpha1.System {
	for _, s := range h.Previews.Systems {
		if s.Name == name || name == "" {
			return s.System
		}
	}
	return v1alpha1.System{}
}

func (a *application) setup(p *v1alpha1.Preview, h *v1alpha1.HostSpec, r Revision) *v1alpha1.SetupSpec {
	s := &v1alpha1.SetupSpec{
		Revision: r.Commit, Generation: int64(p.Spec.Rebuild),
		Files: []v1alpha1.SetupFile{environment(p, h, a.file, r)},
	}
	if a.file.Database != nil {
		s.Database = v1alpha1.PreviewDatabaseName
	}
	user := User
	if a.meta != nil {
		user = builtUser
		builtUnits(s, a.meta, p.Spec.Database.Seed, r)
	} else {
		ownUnits(s, a.file, p.Spec.Database.Seed, r)
	}
	if p.Spec.Grants.RepositoryToken {
		s.Files = append(s.Files, v1alpha1.SetupFile{Path: TokenFile, Mode: 0o400, User: user, Secret: p.Spec.Repository.Secret, Hot: true})
	}
	return s
}

// ownUnits are those that we make of a preview.yaml. seed is the Preview's own;
// nil: that of the file, if it has one.
func ownUnits(s *v1alpha1.SetupSpec, file *v1alpha1.PreviewFile, seed *v1alpha1.PreviewSetup, r Revision) {
	s.Checkout = &v1alpha1.SetupCheckout{Dir: r.Dir, Commit: r.Commit, Path: Checkout, User: User}
	s.Deadline = v1alpha1.Duration{Duration: besideCommands}
	if file.Setup != nil {
		s.Unit = setupUnit
		runs(s, setupUnit, "Setup of the application", file.Setup)
	}
	if d := file.Database; d != nil {
		if seed = cmp.Or(seed, d.Seed); seed != nil {
			s.Seed = seedUnit
			runs(s, seedUnit, seedDescription, seed)
		}
	}
	s.Services = []string{sliceUnit}
	s.Files = append(s.Files, stop(), restarts())
	for _, one := range file.Services {
		s.Services = append(s.Services, serviceUnit(one.Name))
		s.Files = append(s.Files, service(one))
	}
}

// runs gives a setup a unit that comes to an end, and the time for it.
func runs(s *v1alpha1.SetupSpec, name, description string, c *v1alpha1.PreviewSetup) {
	s.Files = append(s.Files, once(name, description, c))
	s.Deadline.Duration += c.Timeout.Duration
}

// environment is the file of the preview's variables.
func environment(p *v1alpha1.Preview, h *v1alpha1.HostSpec, file *v1alpha1.PreviewFile, r Revision) v1alpha1.SetupFile {
	f := v1alpha1.SetupFile{
		Path: EnvironmentFile, Mode: 0o400, User: User,
		Environment: map[string]string{}, Secrets: map[string]string{}, Databases: map[string]string{},
	}
	maps.Copy(f.Environment, p.Spec.Grants.Variables)
	maps.Copy(f.Environment, map[string]string{
		"PREVIEW_REPO_URL": p.Spec.Repository.URL, "PREVIEW_BRANCH": p.Spec.Branch, "PREVIEW_COMMIT": r.Commit,
		"PREVIEW_HOST": p.Spec.Host, "PREVIEW_URL": baseURL(p, h),
	})
	if n := p.Spec.PullRequest; n != 0 {
		f.Environment["PREVIEW_PULL_REQUEST"] = strconv.Itoa(n)
	}
	for _, name := range file.Secrets {
		for _, granted := range p.Spec.Grants.Secrets {
			if granted.Name == name {
				f.Secrets[name] = granted.Secret
			}
		}
	}
	if d := file.Database; d != nil {
		f.Databases[d.Env] = v1alpha1.PreviewDatabaseName
	}
	return f
}

// baseURL is where the preview is found, without a slash at its end.
func baseURL(p *v1alpha1.Preview, h *v1alpha1.HostSpec) string {
	return strings.TrimSuffix(h.URL(v1alpha1.Route{Host: p.Spec.Host, Path: "/", TLS: p.Spec.TLS}), "/")
}
