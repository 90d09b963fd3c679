package v1alpha1

import (
	"fmt"
	"path"
	"strings"
	"time"
)

// Preview shows what a branch, pull request or commit of a repository is now,
// under a URL of its own.
type Preview struct {
	TypeMeta `json:",inline"`
	// Metadata identifies the object; its name is that of the URL, too.
	Metadata ObjectMeta `json:"metadata"`
	// Spec is what is wanted.
	Spec PreviewSpec `json:"spec"`
}

// PreviewSpec says what a preview shows, and what it is given.
type PreviewSpec struct {
	// Repository that the host fetches.
	Repository PreviewRepository `json:"repository"`
	// Branch to follow; or
	Branch string `json:"branch,omitempty"`
	// PullRequest to follow, by its number: refs/pull/NUMBER/head.
	PullRequest int `json:"pullRequest,omitempty" min:"1"`
	// Commit to stay at, in full; beside a branch or pull request it holds the preview there, until it is removed.
	Commit string `json:"commit,omitempty"`
	// Fork true: the commit is from a fork. It gets no grants and no copy of a database, and its configuration must be data only. Goes with repository.name.
	Fork bool `json:"fork,omitempty"`
	// Refresh is how often the branch or pull request is looked at.
	Refresh *Duration `json:"refresh,omitempty"`
	// Host is the DNS name of the URL; absent: NAME.DOMAIN with Host.spec.previews.domain.
	Host string `json:"host,omitempty"`
	// PreviewTemplate is what it is given; with repository.name, that of the Repository.
	PreviewTemplate `json:",inline"`
	// Rebuild runs the setup of the same commit again, each time that the number is raised.
	Rebuild int `json:"rebuild,omitempty" min:"0"`
	// Enabled false stops the machine and keeps its data.
	Enabled *bool `json:"enabled,omitempty"`
	// Reason why it is not enabled; shown in status.
	Reason string `json:"reason,omitempty"`
	// Paused true leaves the object as it is: no change, no repair.
	Paused bool `json:"paused,omitempty"`
}

// PreviewTemplate is what a preview is given: by its own spec, or for each preview
// of a Repository by that.
type PreviewTemplate struct {
	// Config is the path of the application's configuration in the repository: a preview.yaml, or, where the host allows it, a preview-config.nix.
	Config string `json:"config,omitempty"`
	// TLS of the host names: off, internal, files.
	TLS string `json:"tls,omitempty" enum:"off,internal,files"`
	// Grants are what the application may have of the host.
	Grants PreviewGrants `json:"grants,omitzero"`
	// Database of the application, where its preview.yaml asks for one.
	Database PreviewDatabase `json:"database,omitzero"`
	// Resources limit the machine.
	Resources Resources `json:"resources,omitzero"`
	// Egress is what the machine may reach outside.
	Egress Egress `json:"egress,omitzero"`
	// TTL removes a preview that long after it was created, as `tekton delete` does; absent or 0s: it stays.
	TTL *Duration `json:"ttl,omitempty"`
	// SleepAfter stops the preview when nobody has asked for it so long; the next request starts it again, and waits.
	// Health checks neither wake it nor keep it awake. Absent or 0s: it does not sleep.
	SleepAfter *Duration `json:"sleepAfter,omitempty"`
}

// PreviewRepository is a git repository: one that the host's operator has
// described, or any.
type PreviewRepository struct {
	// Name of a Repository object. That says the rest, and all that the preview is given; or
	Name string `json:"name,omitempty"`
	// URL of the repository: https://HOST/PATH or ssh://USER@HOST/PATH; no credential in it.
	URL string `json:"url,omitempty"`
	// Secret of the host that opens it: a token for https, a private key for ssh; absent: none is needed.
	Secret string `json:"secret,omitempty"`
}

// PreviewGrants are what an application may have of the host.
type PreviewGrants struct {
	// Secrets that the application's configuration may ask for.
	Secrets []PreviewSecret `json:"secrets,omitempty"`
	// Variables that the application gets.
	Variables map[string]string `json:"variables,omitempty"`
	// RepositoryToken true hands the repository's secret, a token, to the application, as /etc/preview-token: one that clones needs it.
	RepositoryToken bool `json:"repositoryToken,omitempty"`
}

// PreviewSecret is one granted secret.
type PreviewSecret struct {
	// Name of the variable that gets the value.
	Name string `json:"name"`
	// Secret of the host; absent: the name.
	Secret string `json:"secret,omitempty"`
}

// PreviewDatabase says what becomes of the application's database.
type PreviewDatabase struct {
	// Template is a database of the host's PostgreSQL that a new one is made as a copy of; it is marked there with IS_TEMPLATE. What is in it is shown to the application.
	Template string `json:"template,omitempty"`
	// Seed runs once for the database, instead of the seed that the application's configuration may name.
	Seed *PreviewSetup `json:"seed,omitempty"`
	// DeletionPolicy when the preview is deleted: Retain leaves the data for a later preview of the same name, Delete dumps it to the trash.
	DeletionPolicy string `json:"deletionPolicy,omitempty" enum:"Retain,Delete"`
}

// PreviewsConfig says how previews are shown and what they may run on.
type PreviewsConfig struct {
	// Domain of previews: NAME.DOMAIN.
	Domain string `json:"domain,omitempty"`
	// Systems that a preview.yaml may name as its base; the first is that of one that names none.
	Systems []PreviewSystem `json:"systems,omitempty"`
	// Nix lets previews be of a preview-config.nix; absent: of a preview.yaml only.
	Nix *PreviewsNix `json:"nix,omitempty"`
}

// PreviewsNix says how a preview-config.nix is built. It is evaluated as the
// user of spec.nix, without network, host files and import from derivation.
type PreviewsNix struct {
	// Flake with a function, as REF#ATTR: of what a preview-config.nix evaluates to, it makes what config.system.build is. All its inputs are locked.
	Flake string `json:"flake"`
	// Refresh looks the flake up again that often; absent: it stays as it was when a configuration was first built.
	Refresh *Duration `json:"refresh,omitempty"`
	// Fetch true: what is in no binary cache may be loaded while it is built, by programs that have the host's network.
	Fetch bool `json:"fetch,omitempty"`
}

// PreviewSystem is a base of previews. It boots systemd.
type PreviewSystem struct {
	// Name by which a preview.yaml names it.
	Name string `json:"name"`
	// System that it is.
	System System `json:"system"`
}

// Names of what every preview has.
const (
	// PreviewDatabaseName is its database's name.
	PreviewDatabaseName = "main"
	// PreviewVolume keeps its home over changes of the system.
	PreviewVolume = "home"
	// PreviewHome is where that appears.
	PreviewHome = "/home/preview"
)

// Type returns apiVersion and kind.
func (p *Preview) Type() TypeMeta { return p.TypeMeta }

// Meta returns the metadata.
func (p *Preview) Meta() ObjectMeta { return p.Metadata }

// Machine returns what is known of the machine without the repository: limits,
// and whose data it may have. The rest follows from the commit.
func (p *Preview) Machine() *ContainerSpec {
	s := p.Spec
	return &ContainerSpec{
		Runtime:       RuntimeNspawn,
		RestartPolicy: "Always",
		Trust:         "untrusted",
		Volumes:       []Volume{{Name: PreviewVolume, Path: PreviewHome, DeletionPolicy: "Delete"}},
		Databases:     []Database{{Name: PreviewDatabaseName, Env: databaseEnv, Template: s.Database.Template, DeletionPolicy: s.Database.DeletionPolicy}},
		Network:       Network{Egress: s.Egress},
		Resources:     s.Resources,
		TTL:           s.TTL,
		SleepAfter:    s.SleepAfter,
		Enabled:       s.Enabled,
		Reason:        s.Reason,
		Paused:        s.Paused,
		Preview:       p,
	}
}

// Declared returns the preview's spec.
func (p *Preview) Declared() any { return &p.Spec }

// UsesNix reports whether the configuration is a preview-config.nix: code, that is
// evaluated on the host.
func (t *PreviewTemplate) UsesNix() bool { return path.Ext(t.Config) == ".nix" }

// Ref is the reference of the repository that the preview shows.
func (s *PreviewSpec) Ref() string {
	if s.Commit != "" {
		return s.Commit
	}
	return s.Followed()
}

// Followed is the reference that the preview is of, also while it is held at a commit.
func (s *PreviewSpec) Followed() string {
	switch {
	case s.PullRequest != 0:
		return fmt.Sprintf("refs/pull/%d/head", s.PullRequest)
	case s.Branch != "":
		return "refs/heads/" + s.Branch
	}
	return s.Commit
}

const defaultPreviewRefresh = time.Minute

// Default fills what the spec leaves open; see Container.Default.
func (p *Preview) Default(h *HostSpec) {
	h = orDefaultHost(h)
	s := &p.Spec
	setDefault(&p.APIVersion, APIVersion)
	setDefault(&p.Kind, KindPreview)
	setPointer(&s.Refresh, Duration{defaultPreviewRefresh})
	if h.Previews.Domain != "" && p.Metadata.Name != "" {
		setDefault(&s.Host, p.Metadata.Name+"."+h.Previews.Domain)
	}
	if s.Repository.Name == "" {
		s.PreviewTemplate.setDefaults(h)
	}
	setPointer(&s.Enabled, true)
}

func (t *PreviewTemplate) setDefaults(h *HostSpec) {
	setDefault(&t.Config, "preview.yaml")
	setDefault(&t.TLS, h.Ingress.TLS)
	for i := range t.Grants.Secrets {
		setDefault(&t.Grants.Secrets[i].Secret, t.Grants.Secrets[i].Name)
	}
	t.Database.Seed.setDefaults()
	setDefault(&t.Database.DeletionPolicy, "Delete")
	setDefault(&t.Egress.Mode, "internet")
}

func (c *PreviewsConfig) setDefaults() {
	if c.Systems == nil {
		c.Systems = []PreviewSystem{{Name: "host", System: System{Host: true}}}
	}
}

// PreviewHostName is the host name of a preview's routes with a prefix: PREFIX-NAME.DOMAIN.
func PreviewHostName(host, prefix string) string {
	if prefix == "" {
		return host
	}
	return strings.Join([]string{prefix, host}, "-")
}
