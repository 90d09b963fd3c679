package webhook

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/forge"
	"tekton.host/pkg/internal/companion"
	"tekton.host/pkg/spec"
)

// Config is the configuration of tekton-webhook: a file of its own, that names
// files with secrets and holds none.
type Config struct {
	// Listen at a loopback address and port, or at unix:PATH; a reverse proxy is in front.
	Listen string `json:"listen,omitempty"`
	// Specs is the directory that previews are written to: a source of the daemon.
	Specs string `json:"specs,omitempty"`
	// State is a directory for what has to outlive a restart.
	State string `json:"state,omitempty"`
	// Socket of the daemon: that which only shows, Host.spec.readSocketGroup.
	Socket string `json:"socket,omitempty"`
	// Sweep is how often all open pull requests are looked at, whatever was delivered.
	Sweep *v1alpha1.Duration `json:"sweep,omitempty"`
	// Max previews at a time, of all Repositories: further pull requests wait. 0: no limit but those
	// of the Repositories; what the source has no room for then says so.
	Max int `json:"max,omitempty"`
	// Instance names this host in comments, where several tell of the same pull requests with one account.
	Instance string `json:"instance,omitempty"`
	// NoLogs leaves the ends of failed builds' and setups' logs out of comments.
	NoLogs bool `json:"noLogs,omitempty"`
	// Forges whose deliveries are taken.
	Forges []ForgeConfig `json:"forges,omitempty"`
}

// ForgeConfig says how one forge is spoken with. Files are read when they are
// needed; a relative name is one of $CREDENTIALS_DIRECTORY, else of the
// directory of the configuration.
type ForgeConfig struct {
	// Name; deliveries come to /webhook/NAME.
	Name string `json:"name"`
	// Type of its API: github, forgejo (also Gitea).
	Type string `json:"type"`
	// URL that repositories are below; of github, absent is https://github.com.
	URL string `json:"url,omitempty"`
	// SecretFiles hold the secrets that deliveries are signed with: one, and while it is replaced two.
	SecretFiles []string `json:"secretFiles"`
	// TokenFile holds the token of a user; or
	TokenFile string `json:"tokenFile,omitempty"`
	// App of GitHub.
	App *AppConfig `json:"app,omitempty"`
}

// AppConfig is a GitHub App.
type AppConfig struct {
	// ID of the app, or its client ID, in quotes.
	ID string `json:"id"`
	// KeyFile holds its private key in PEM.
	KeyFile string `json:"keyFile"`
}

const (
	defaultSweep = 10 * time.Minute
	minSweep     = 10 * time.Second
	maxSecrets   = 2
)

var forgeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// LoadConfig reads and checks a configuration. Everything that is wrong is told
// at once, with its place.
func LoadConfig(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	c := &Config{}
	problems := spec.DecodeFile(path, data, c, func() field.ErrorList {
		c.setDefaults()
		return c.validate()
	})
	var errs []error
	for _, p := range problems {
		errs = append(errs, p)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	dir := cmp.Or(os.Getenv("CREDENTIALS_DIRECTORY"), filepath.Dir(path))
	for i := range c.Forges {
		c.Forges[i].resolve(dir)
	}
	return c, nil
}

func (c *Config) setDefaults() {
	c.Listen = cmp.Or(c.Listen, "127.0.0.1:9180")
	c.Specs = cmp.Or(c.Specs, "/var/lib/tekton-webhook/specs")
	c.State = cmp.Or(c.State, "/var/lib/tekton-webhook/state")
	c.Socket = cmp.Or(c.Socket, "/run/tekton/read.sock")
	if c.Sweep == nil {
		c.Sweep = &v1alpha1.Duration{Duration: defaultSweep}
	}
	for i := range c.Forges {
		if c.Forges[i].Type == string(forge.GitHub) {
			c.Forges[i].URL = cmp.Or(c.Forges[i].URL, "https://github.com")
		}
	}
}

func (c *Config) validate() field.ErrorList {
	var errs field.ErrorList
	if _, _, err := companion.Address(c.Listen); err != nil {
		errs = append(errs, field.Invalid(field.NewPath("listen"), c.Listen, err.Error()))
	}
	for name, path := range map[string]string{"specs": c.Specs, "state": c.State, "socket": c.Socket} {
		if !filepath.IsAbs(path) {
			errs = append(errs, field.Invalid(field.NewPath(name), path, "must be an absolute path"))
		}
	}
	if c.Sweep.Duration < minSweep {
		errs = append(errs, field.Invalid(field.NewPath("sweep"), c.Sweep.String(), "must be at least "+minSweep.String()))
	}
	if c.Max < 0 {
		errs = append(errs, field.Invalid(field.NewPath("max"), c.Max, "must be at least 0"))
	}
	if err := checkInstance(c.Instance); err != nil {
		errs = append(errs, field.Invalid(field.NewPath("instance"), c.Instance, err.Error()))
	}
	if len(c.Forges) == 0 {
		errs = append(errs, field.Required(field.NewPath("forges"), "name at least one forge"))
	}
	names := map[string]bool{}
	for i, f := range c.Forges {
		p := field.NewPath("forges").Index(i)
		errs = append(errs, f.validate(p)...)
		if names[f.Name] {
			errs = append(errs, field.Duplicate(p.Child("name"), f.Name))
		}
		names[f.Name] = true
	}
	return errs
}

func (f *ForgeConfig) validate(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	if !forgeName.MatchString(f.Name) {
		errs = append(errs, field.Invalid(p.Child("name"), f.Name, "must be lower-case letters, digits and -, at most 40"))
	}
	if n := len(f.SecretFiles); n < 1 || n > maxSecrets {
		errs = append(errs, field.Invalid(p.Child("secretFiles"), f.SecretFiles, "must name the file with the webhook's secret, and at most one more while it is replaced"))
	}
	if f.App != nil && (f.App.ID == "" || f.App.KeyFile == "") {
		errs = append(errs, field.Required(p.Child("app"), "write id and keyFile"))
	}
	if (f.TokenFile == "") == (f.App == nil) {
		errs = append(errs, field.Required(p, "write tokenFile or app, one of them"))
	} else if _, err := f.client(); err != nil {
		errs = append(errs, field.Invalid(p.Child("url"), f.URL, err.Error()))
	}
	return errs
}

// resolve relative names of files.
func (f *ForgeConfig) resolve(dir string) {
	at := func(name *string) {
		if *name != "" && !filepath.IsAbs(*name) {
			*name = filepath.Join(dir, *name)
		}
	}
	for i := range f.SecretFiles {
		at(&f.SecretFiles[i])
	}
	at(&f.TokenFile)
	if f.App != nil {
		at(&f.App.KeyFile)
	}
}

// client of the forge's API.
func (f *ForgeConfig) client() (*forge.API, error) {
	o := forge.Options{Service: forge.Service(f.Type), URL: f.URL}
	if f.App != nil {
		o.App = f.app()
	} else {
		o.Token = func() (string, error) {
			text, err := companion.Secret(f.TokenFile)
			return string(text), err
		}
	}
	return forge.New(o)
}

func (f *ForgeConfig) app() *forge.App {
	return &forge.App{ID: f.App.ID, Key: func() ([]byte, error) { return companion.Secret(f.App.KeyFile) }}
}

// secrets that deliveries are signed with.
func (f *ForgeConfig) secrets() ([][]byte, error) {
	var out [][]byte
	for _, file := range f.SecretFiles {
		text, err := companion.Secret(file)
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}

// forges with their clients.
func (c *Config) forges() ([]Forge, error) {
	var out []Forge
	for i := range c.Forges {
		f := &c.Forges[i]
		client, err := f.client()
		if err != nil {
			return nil, fmt.Errorf("forge %s: %w", f.Name, err)
		}
		out = append(out, Forge{Name: f.Name, URL: f.URL, Client: client, Secrets: f.secrets})
	}
	return out, nil
}
