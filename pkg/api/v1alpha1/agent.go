package v1alpha1

import "time"

// Agent is a sandbox for a coding agent: a machine that people and programs
// come into by ssh, as a user who has a home that outlives it.
type Agent struct {
	TypeMeta `json:",inline"`
	// Metadata identifies the object.
	Metadata ObjectMeta `json:"metadata"`
	// Spec is what is wanted.
	Spec AgentSpec `json:"spec"`
}

// AgentSpec says what an agent's machine is to be. What it has in common with a
// Container means the same.
type AgentSpec struct {
	// System is where the userland comes from; exactly one field is set. It has to have an sshd: storePath and flake boot
	// one of their own (nix/containers/agent.nix), of host and rootfs /usr/sbin/sshd is run.
	System System `json:"system"`
	// User that ssh lets in, and whose the home and the credentials are. host and rootfs that lack it get it, with id 1000.
	User string `json:"user,omitempty"`
	// SSHKeys that may log in as the user: public keys, one a line of authorized_keys. Changing them restarts nothing.
	SSHKeys []string `json:"sshKeys,omitempty"`
	// Home of the user: a volume at /home/USER (/root), kept over changes of all else.
	Home Home `json:"home,omitzero"`
	// Repository that the user finds at /workspace: cloned once by the host, then the user's, kept as the home is.
	Repository *AgentRepository `json:"repository,omitempty"`
	// Environment of the user's sessions.
	Environment map[string]string `json:"environment,omitempty"`
	// Credentials out of the host's secrets: files of the user, or variables of its sessions.
	Credentials []Credential `json:"credentials,omitempty"`
	// Databases in the host's PostgreSQL, reachable from this machine only.
	Databases []Database `json:"databases,omitempty"`
	// Routes of the ingress to this machine.
	Routes []Route `json:"routes,omitempty"`
	// Network says what the machine may reach and what reaches it.
	Network Network `json:"network,omitzero"`
	// Resources limit the machine, in systemd's units.
	Resources Resources `json:"resources,omitzero"`
	// TTL removes the object that long after it was created, as `tekton delete` does; absent or 0s: it stays.
	TTL *Duration `json:"ttl,omitempty"`
	// Enabled false stops the machine and keeps its data.
	Enabled *bool `json:"enabled,omitempty"`
	// Reason why it is not enabled; shown in status.
	Reason string `json:"reason,omitempty"`
	// Paused true leaves the object as it is: no change, no repair.
	Paused bool `json:"paused,omitempty"`
	// Trust is untrusted or trusted; each relaxation needs trusted.
	Trust string `json:"trust,omitempty" enum:"untrusted,trusted"`
}

// Home is the volume of a user's home.
type Home struct {
	// SizeMax bounds the volume where the host's file system has project quotas.
	SizeMax *Quantity `json:"sizeMax,omitempty"`
	// DeletionPolicy when the object is deleted: Retain leaves the data for a later object of the same name, Delete moves it to the trash.
	DeletionPolicy string `json:"deletionPolicy,omitempty" enum:"Retain,Delete"`
}

// AgentRepository is a repository of git, which the host clones. No credential
// of it enters the machine: pushing needs one of the agent's own.
type AgentRepository struct {
	// URL of the repository: https://HOST/PATH or ssh://USER@HOST/PATH.
	URL string `json:"url"`
	// Ref is a branch, a tag, a whole commit, refs/…, or HEAD: the repository's default branch.
	Ref string `json:"ref,omitempty"`
	// Secret of the host that gives access: the token of an https url, the private key of an ssh one.
	Secret string `json:"secret,omitempty"`
}

// volume is the repository as a Container has one.
func (r *AgentRepository) volume() *VolumeRepository {
	return &VolumeRepository{URL: r.URL, Ref: r.Ref, Secret: r.Secret}
}

// Login is a user of a machine whom ssh lets in.
type Login struct {
	User string
	Home string
	// Keys are lines of authorized_keys.
	Keys []string
}

const (
	defaultAgentUser = "agent"
	// HomeVolume is the name of an agent's volume.
	HomeVolume = "home"
	// RepositoryVolume is the name of the one that an agent's repository is in, and Workspace where it is.
	RepositoryVolume, Workspace = "repository", "/workspace"
	sshPort                     = 22
)

// sshdCommand runs the sshd of a userland without init. It wants to be called by
// its whole path.
var sshdCommand = []string{"/usr/sbin/sshd", "-D", "-e", "-f", SSHDConfig}

// SSHDConfig is where a machine finds what tekton has sshd do.
const SSHDConfig = "/run/tekton-ssh/config"

// Type returns apiVersion and kind.
func (a *Agent) Type() TypeMeta { return a.TypeMeta }

// Meta returns the metadata.
func (a *Agent) Meta() ObjectMeta { return a.Metadata }

// Declared returns the agent's spec.
func (a *Agent) Declared() any { return &a.Spec }

// Machine returns the container that the agent is: sshd, or the system's init
// that starts one, with the user's home as a volume.
func (a *Agent) Machine() *ContainerSpec {
	s := a.Spec
	c := &ContainerSpec{
		System: s.System, Runtime: RuntimeNspawn, Environment: s.Environment,
		Volumes: []Volume{{Name: HomeVolume, Path: s.home(), SizeMax: s.Home.SizeMax, DeletionPolicy: s.Home.DeletionPolicy}},
		Login:   &Login{User: s.User, Home: s.home(), Keys: s.SSHKeys},

		Databases: s.Databases, Credentials: s.Credentials, Routes: s.Routes, Network: s.Network, Resources: s.Resources,
		Probe: &Probe{
			TCP: &TCPProbe{Port: sshPort}, Timeout: &Duration{defaultProbeTimeout}, Deadline: &Duration{defaultProbeDeadline},
		},
		RestartPolicy: "Always", StopTimeout: &Duration{defaultStopTimeout}, Update: Update{Strategy: "Auto"},
		TTL: s.TTL, Enabled: s.Enabled, Reason: s.Reason, Paused: s.Paused, Trust: s.Trust, UserNamespace: new(true),
	}
	if s.Repository != nil {
		c.Volumes = append(c.Volumes, Volume{Name: RepositoryVolume, Path: Workspace, DeletionPolicy: s.Home.DeletionPolicy, Repository: s.Repository.volume()})
	}
	if s.System.Host || s.System.RootFS != "" {
		c.Command, c.User, c.WorkingDirectory = sshdCommand, "root", "/"
	}
	return c
}

func (s *AgentSpec) home() string {
	if s.User == "root" {
		return "/root"
	}
	return "/home/" + s.User
}

// Default fills what the spec leaves open. h is a defaulted host, or nil for
// an embedded default one. It is idempotent.
func (a *Agent) Default(h *HostSpec) {
	s := &a.Spec
	setDefault(&a.APIVersion, APIVersion)
	setDefault(&a.Kind, KindAgent)
	setDefault(&s.User, defaultAgentUser)
	setDefault(&s.Home.DeletionPolicy, "Retain")
	if s.Repository != nil {
		setDefault(&s.Repository.Ref, "HEAD")
	}
	setDefault(&s.Trust, "untrusted")
	setPointer(&s.Enabled, true)
	// Lists are shared with the agent; the network is a copy.
	c := a.Machine()
	c.defaultData()
	c.defaultNetwork(orDefaultHost(h))
	s.Network = c.Network
}

// minTTL leaves time for the warning, and to come in at all.
const minTTL = 10 * time.Second
