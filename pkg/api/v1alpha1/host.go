package v1alpha1

import "fmt"

// Host is the configuration of the daemon: `tektond --config FILE` only. In a
// source it is an error. Every field has a default.
type Host struct {
	TypeMeta `json:",inline"`
	// Metadata names the host.
	Metadata ObjectMeta `json:"metadata,omitzero"`
	// Spec is the configuration.
	Spec HostSpec `json:"spec,omitzero"`
}

// HostSpec says how the host is to be used.
type HostSpec struct {
	// Instance enters every host-global name, so that several daemons live side by side; at most 4 characters [a-z0-9], the last one a letter.
	Instance string `json:"instance,omitempty"`
	// StateDir keeps the ledger, roots, volumes, databases.
	StateDir string `json:"stateDir,omitempty"`
	// RunDir keeps sockets and what ends with a boot.
	RunDir string `json:"runDir,omitempty"`
	// SecretsDir holds one file a secret, 0600 root.
	SecretsDir string `json:"secretsDir,omitempty"`
	// SocketGroup may use the daemon's socket beside root.
	SocketGroup string `json:"socketGroup,omitempty"`
	// ReadSocketGroup may use the socket RUNDIR/read.sock, which shows objects, their status and events and changes nothing; absent:
	// there is no such socket. tekton-webhook and tekton-status need it.
	ReadSocketGroup string `json:"readSocketGroup,omitempty"`
	// OperateSocketGroup may use the socket RUNDIR/operate.sock, which shows the same and what machines print, and has machines start anew and
	// git sources pause; absent: there is no such socket. tekton-status needs it for logs and actions.
	OperateSocketGroup string `json:"operateSocketGroup,omitempty"`
	// Subnet of the machines, IPv4, /16 to /28.
	Subnet string `json:"subnet,omitempty"`
	// Domain of the host's own names: unknown hosts below it get our 404.
	Domain string `json:"domain,omitempty"`
	// PublishAddress for ports without hostIP; absent: hostIP is required.
	PublishAddress string `json:"publishAddress,omitempty"`
	// Runtime of machines.
	Runtime RuntimeConfig `json:"runtime,omitzero"`
	// Ingress is the reverse proxy.
	Ingress IngressConfig `json:"ingress,omitzero"`
	// Postgres is the database server.
	Postgres PostgresConfig `json:"postgres,omitzero"`
	// DNS for machines.
	DNS DNSConfig `json:"dns,omitzero"`
	// Nix builds flakes.
	Nix NixConfig `json:"nix,omitzero"`
	// Previews of repositories.
	Previews PreviewsConfig `json:"previews,omitzero"`
	// Sources of specs; absent: one directory "local" at STATEDIR/specs that may do everything.
	Sources []SourceConfig `json:"sources,omitempty"`
	// Git says how git is run for sources that are repositories.
	Git GitConfig `json:"git,omitzero"`
	// Metrics of the daemon for Prometheus, beside those on its socket.
	Metrics MetricsConfig `json:"metrics,omitzero"`
	// Notifications tell programs or web hooks of objects that turn Ready or not Ready.
	Notifications []Notification `json:"notifications,omitempty"`
	// TrashFor is how long deleted data is kept.
	TrashFor *Duration `json:"trashFor,omitempty"`
	// SlotCooldown before an address is used again.
	SlotCooldown *Duration `json:"slotCooldown,omitempty"`
	// ParallelStarts of machines; 0: four a CPU.
	ParallelStarts int `json:"parallelStarts,omitempty" min:"0" max:"1024"`
}

// RuntimeConfig says how machines and services are run.
type RuntimeConfig struct {
	// Supervisor: auto (systemd where it is PID 1), supervised, systemd.
	Supervisor string `json:"supervisor,omitempty" enum:"auto,supervised,systemd"`
	// Seccomp false drops nspawn's system call filter: faster starts, one protection less.
	Seccomp *bool `json:"seccomp,omitempty"`
	// LogMax bounds the log of one machine; two files of half of it are kept.
	LogMax *Quantity `json:"logMax,omitempty"`
}

// ModeSystem uses what the host's operator runs.
const ModeSystem = "system"

// IngressConfig of the reverse proxy.
type IngressConfig struct {
	// Mode: managed (a Caddy of our own), system (the host's own Caddy, whose Caddyfile imports our sites), none.
	Mode string `json:"mode,omitempty" enum:"managed,system,none"`
	// HTTPPort that it listens on.
	HTTPPort int `json:"httpPort,omitempty" min:"1" max:"65535"`
	// HTTPSPort that it listens on; 0 serves no TLS.
	HTTPSPort *int `json:"httpsPort,omitempty" min:"0" max:"65535"`
	// TLS of routes that do not say: off, internal, files, acme.
	TLS string `json:"tls,omitempty" enum:"off,internal,files,acme"`
	// ACME is the authority of TLS mode acme.
	ACME ACMEConfig `json:"acme,omitzero"`
	// Certificates for TLS mode files.
	Certificates []Certificate `json:"certificates,omitempty"`
	// GracePeriod that open connections keep over a change.
	GracePeriod *Duration `json:"gracePeriod,omitempty"`
	// User that Caddy runs as.
	User string `json:"user,omitempty"`
	// Caddyfile of the host's own Caddy, which has to have the line that imports our sites. Mode system.
	Caddyfile string `json:"caddyfile,omitempty"`
	// Admin endpoint of the host's own Caddy: "localhost:2019", "unix//run/caddy/admin.sock". Mode system.
	Admin string `json:"admin,omitempty"`
}

// ACMEConfig is a public authority of certificates. Who uses it agrees to its terms.
type ACMEConfig struct {
	// Directory of the authority, a URL.
	Directory string `json:"directory,omitempty"`
	// Email that the authority may write to.
	Email string `json:"email,omitempty"`
	// RootsFile holds certificates, PEM, to check a private authority's own with; absent: the host's.
	RootsFile string `json:"rootsFile,omitempty"`
}

// Certificate is a pair of files for the hosts that match.
type Certificate struct {
	// Hosts that it is for: "web.example.org", "*.example.org" (one label).
	Hosts []string `json:"hosts"`
	// CertFile holds the certificate and its chain, PEM.
	CertFile string `json:"certFile"`
	// KeyFile holds the private key, PEM.
	KeyFile string `json:"keyFile"`
}

// PostgresConfig of the database server.
type PostgresConfig struct {
	// Mode: managed (a PostgreSQL of our own), system (the host's own PostgreSQL), none.
	Mode string `json:"mode,omitempty" enum:"managed,system,none"`
	// User that the server runs as; not root. Mode system: also the superuser that we are, over the socket.
	User string `json:"user,omitempty"`
	// BinDir holds initdb, postgres, pg_dump; absent: the newest found on the host.
	BinDir string `json:"binDir,omitempty"`
	// Port on the service address.
	Port int `json:"port,omitempty" min:"1" max:"65535"`
	// SocketDir of the host's own PostgreSQL. Mode system.
	SocketDir string `json:"socketDir,omitempty"`
	// MaxConnections of the server of our own.
	MaxConnections int `json:"maxConnections,omitempty" min:"10" max:"10000"`
	// ConnectionLimit of each role.
	ConnectionLimit int `json:"connectionLimit,omitempty" min:"1" max:"10000"`
}

// DNSConfig of the supervised resolver.
type DNSConfig struct {
	// Mode: managed, none.
	Mode string `json:"mode,omitempty" enum:"managed,none"`
	// Domain of machine names.
	Domain string `json:"domain,omitempty"`
	// Upstreams that other names are forwarded to; absent: the host's resolv.conf.
	Upstreams []string `json:"upstreams,omitempty"`
	// Resolved true has the host itself resolve names of machines, by a drop-in for systemd-resolved while there are machines.
	Resolved bool `json:"resolved,omitempty"`
}

// NixConfig says how flakes are built.
type NixConfig struct {
	// User that Nix code is evaluated as; not root. It must be able to read flakes that are directories of the host.
	User string `json:"user,omitempty"`
	// ParallelBuilds at most; others wait.
	ParallelBuilds int `json:"parallelBuilds,omitempty" min:"1" max:"64"`
	// BuildTimeout of one build: locking, evaluation and all.
	BuildTimeout *Duration `json:"buildTimeout,omitempty"`
	// MemoryMax of one build; where the host runs a Nix daemon, of its evaluation.
	MemoryMax *Quantity `json:"memoryMax,omitempty"`
	// CPUQuota of one build, such as 150%; where the host runs a Nix daemon, of its evaluation.
	CPUQuota string `json:"cpuQuota,omitempty"`
}

// MetricsConfig says where the metrics are served.
type MetricsConfig struct {
	// Address and port that answer GET /metrics in plain HTTP, "127.0.0.1:9842"; absent: only the daemon's socket does. Names
	// of objects and sources are in the answer, so it is no address for everybody.
	Address string `json:"address,omitempty"`
}

// Notification is told of objects that turn Ready or not Ready, as JSON: to a
// command's standard input, or with POST to a URL. It is tried until it has
// succeeded; what turned back meanwhile is not told.
type Notification struct {
	// Name of the notification, a DNS label.
	Name string `json:"name"`
	// Command to run, as a list; not with url.
	Command []string `json:"command,omitempty"`
	// User that the command runs as.
	User string `json:"user,omitempty"`
	// URL that gets the JSON: https://HOST/PATH or http://HOST/PATH; not with command.
	URL string `json:"url,omitempty"`
	// TokenFile holds a token that is sent as Authorization: Bearer.
	TokenFile string `json:"tokenFile,omitempty"`
	// After is how long an object has not been Ready before it is told: updates and restarts are no news.
	After *Duration `json:"after,omitempty"`
}

// GitConfig says how git is run, and how repositories that objects name are fetched.
type GitConfig struct {
	// User that git and ssh run as; not root.
	User string `json:"user,omitempty"`
	// KnownHostsFile holds the host keys of the ssh servers that objects' repositories are fetched from.
	KnownHostsFile string `json:"knownHostsFile,omitempty"`
	// ParallelFetches of objects' repositories at most; others wait.
	ParallelFetches int `json:"parallelFetches,omitempty" min:"1" max:"64"`
	// FetchTimeout of one fetch of an object's repository.
	FetchTimeout *Duration `json:"fetchTimeout,omitempty"`
	// MaxSize of what a fetch of an object's repository may bring, and of the files of its commit.
	MaxSize *Quantity `json:"maxSize,omitempty"`
}

// SourceConfig is where specs come from: a directory, or a branch of a git
// repository.
type SourceConfig struct {
	// Name of the source, a DNS label.
	Name string `json:"name"`
	// Path of a directory with *.yaml and *.yml files; not with git.
	Path string `json:"path,omitempty"`
	// Git repository that the specs are read from; not with path.
	Git *GitSource `json:"git,omitempty"`
	// Allow admits specs; absent: everything (the operator's own directory).
	Allow *Admission `json:"allow,omitempty"`
}

// GitSource is a branch of a repository. Its specs are read from the commit,
// there is no work tree.
type GitSource struct {
	// URL of the repository: https://HOST/PATH or ssh://USER@HOST/PATH.
	URL string `json:"url"`
	// Branch to follow.
	Branch string `json:"branch,omitempty"`
	// Path of the directory with *.yaml and *.yml files, as in the repository; absent: its top.
	Path string `json:"path,omitempty"`
	// Interval at which the branch is looked at, beside `tekton source sync`.
	Interval *Duration `json:"interval,omitempty"`
	// Timeout of one look.
	Timeout *Duration `json:"timeout,omitempty"`
	// MaxSize of what one fetch may bring.
	MaxSize *Quantity `json:"maxSize,omitempty"`
	// Partial true takes the good files of a commit though others have problems; else a commit is taken whole or not at all.
	Partial bool `json:"partial,omitempty"`
	// Auth to the remote; absent: none.
	Auth GitAuth `json:"auth,omitzero"`
	// Verify demands that commits are signed.
	Verify *GitVerify `json:"verify,omitempty"`
}

// GitAuth is how the remote knows us, and we it. The files may be readable by
// root alone.
type GitAuth struct {
	// SSHKeyFile holds the private key, without a passphrase; ssh only.
	SSHKeyFile string `json:"sshKeyFile,omitempty"`
	// KnownHostsFile holds the remote's host keys; required with ssh.
	KnownHostsFile string `json:"knownHostsFile,omitempty"`
	// TokenFile holds a token or password; https only.
	TokenFile string `json:"tokenFile,omitempty"`
	// Username that goes with the token.
	Username string `json:"username,omitempty"`
}

// GitVerify says whose signature a commit must have.
type GitVerify struct {
	// AllowedSignersFile lists SSH keys and whose they are, as ssh-keygen(1) describes it.
	AllowedSignersFile string `json:"allowedSignersFile"`
}

// Admission is what the specs of a source may ask for. An absent list admits
// nothing of its sort, except where noted.
type Admission struct {
	// Kinds; absent: all.
	Kinds []string `json:"kinds,omitempty"`
	// MaxTrust: untrusted (default), trusted.
	MaxTrust string `json:"maxTrust,omitempty" enum:"untrusted,trusted"`
	// Domains that routes may use: "preview.example.org" (exact), "*.preview.example.org" (one label below).
	Domains []string `json:"domains,omitempty"`
	// LinkTargets that network.links may name; "*" for all.
	LinkTargets []string `json:"linkTargets,omitempty"`
	// Secrets that credentials and repositories may name; "*" for all.
	Secrets []string `json:"secrets,omitempty"`
	// HostPaths below which mounts and rootfs may lie; links below them do not lead out.
	HostPaths []string `json:"hostPaths,omitempty"`
	// HostPorts that may be published: "8000-8999", "25".
	HostPorts []string `json:"hostPorts,omitempty"`
	// Flakes that may be built: a whole REFERENCE#ATTRIBUTE, or its beginning and "*".
	Flakes []string `json:"flakes,omitempty"`
	// Repositories that may be fetched: a whole url, or its beginning and "*"; an entry without "://" is the name of a Repository
	// that Previews may name, or its beginning and "*". "*" alone is all of both.
	Repositories []string `json:"repositories,omitempty"`
	// DatabaseTemplates that databases may be made as copies of; "*" for all.
	DatabaseTemplates []string `json:"databaseTemplates,omitempty"`
	// MaxObjects of the source; 0: no limit.
	MaxObjects int `json:"maxObjects,omitempty" min:"0"`
}

// URL is where a route of the host is found.
func (h *HostSpec) URL(r Route) string {
	scheme, port, standard := "http", h.Ingress.HTTPPort, 80
	if r.TLS != "off" && h.Ingress.HTTPSPort != nil {
		scheme, port, standard = "https", *h.Ingress.HTTPSPort, 443
	}
	if port == standard {
		return scheme + "://" + r.Host + r.Path
	}
	return fmt.Sprintf("%s://%s:%d%s", scheme, r.Host, port, r.Path)
}
