package preview

import (
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
	// Config is the text of its preview.yaml; nil: it has none, or one that is no small regular file.
	Config *string `json:"config,omitempty"`
}

// Machine is what a preview asks of its machine at a revision, and what is wrong
// with that; nil: nobody can tell. base is what is known without it
// (Preview.Machine), h the defaulted host.
func Machine(base *v1alpha1.ContainerSpec, h *v1alpha1.HostSpec, r Revision) (*v1alpha1.ContainerSpec, []spec.Problem) {
	p := base.Preview
	file, problems := readFile(p, h, r)
	if file == nil {
		return nil, problems
	}
	s := *base
	// No command: the base's systemd boots. The user is whose the home is.
	s.System, s.User = system(h, file.System), User
	s.Databases = nil
	if d := file.Database; d != nil {
		s.Databases = []v1alpha1.Database{{
			Name: v1alpha1.PreviewDatabaseName, Env: d.Env, Extensions: d.Extensions,
			Template: p.Spec.Database.Template, DeletionPolicy: p.Spec.Database.DeletionPolicy,
		}}
	}
	for _, route := range file.Routes {
		s.Routes = append(s.Routes, v1alpha1.Route{
			Host: v1alpha1.PreviewHostName(p.Spec.Host, route.HostPrefix), Path: route.Path, PathType: route.PathType,
			Port: route.Port, StripPrefix: route.StripPrefix, TLS: p.Spec.TLS,
		})
	}
	s.Probe = file.Probe
	s.Setup = setupSpec(p, h, file, r)
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

// readFile reads the commit's preview.yaml.
func readFile(p *v1alpha1.Preview, h *v1alpha1.HostSpec, r Revision) (*v1alpha1.PreviewFile, []spec.Problem) {
	path := p.Spec.Config
	if r.Config == nil {
		return nil, []spec.Problem{{Position: spec.Position{File: path}, Reason: spec.ReasonInvalidValue,
			Message: fmt.Sprintf("commit %.12s has no such file, or it is no regular file of at most %d KiB; add one to the repository: it says which services to start", r.Commit, MaxFile>>10)}}
	}
	var file *v1alpha1.PreviewFile
	read := &v1alpha1.PreviewFile{}
	problems := spec.DecodeFile(path, []byte(*r.Config), read, func() field.ErrorList {
		file = read
		file.Default()
		return file.Validate(h, p.Spec.Grants)
	})
	return file, problems
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

func setupSpec(p *v1alpha1.Preview, h *v1alpha1.HostSpec, file *v1alpha1.PreviewFile, r Revision) *v1alpha1.SetupSpec {
	s := &v1alpha1.SetupSpec{
		Revision: r.Commit, Generation: int64(p.Spec.Rebuild),
		Checkout: &v1alpha1.SetupCheckout{Dir: r.Dir, Commit: r.Commit, Path: Checkout, User: User},
		Files:    []v1alpha1.SetupFile{environment(p, h, file, r)},
		Deadline: v1alpha1.Duration{Duration: besideCommands},
	}
	if file.Setup != nil {
		s.Unit = setupUnit
		runs(s, setupUnit, "Setup of the application", file.Setup)
	}
	if d := file.Database; d != nil {
		s.Database = v1alpha1.PreviewDatabaseName
		if d.Seed != nil {
			s.Seed = seedUnit
			runs(s, seedUnit, "Seed of the database", d.Seed)
		}
	}
	s.Services = []string{sliceUnit}
	s.Files = append(s.Files, stop())
	for _, one := range file.Services {
		s.Services = append(s.Services, serviceUnit(one.Name))
		s.Files = append(s.Files, service(one))
	}
	return s
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
