package v1alpha1

// Tags on fields beside json: enum lists the allowed values; min and max bound
// a number. Validation, the schemas and the reference pages read them, so that
// a rule is written once.

// TypeMeta says what a document is.
type TypeMeta struct {
	// APIVersion is tekton.host/v1alpha1.
	APIVersion string `json:"apiVersion"`
	// Kind of the document.
	Kind string `json:"kind"`
}

// ObjectMeta is what every kind carries.
type ObjectMeta struct {
	// Name is a DNS label of at most 40 characters, unique across all kinds that run a machine.
	Name string `json:"name"`
	// Labels select objects in `tekton get -l`.
	Labels map[string]string `json:"labels,omitempty"`
	// Annotations carry data for other tools; tekton ignores them.
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Container is a long-running service in one machine.
type Container struct {
	TypeMeta `json:",inline"`
	// Metadata identifies the object.
	Metadata ObjectMeta `json:"metadata"`
	// Spec is what is wanted.
	Spec ContainerSpec `json:"spec"`
}

// ContainerSpec says what a container is to be.
type ContainerSpec struct {
	// System is where the userland comes from; exactly one field is set.
	System System `json:"system"`
	// Runtime that runs the machine; immutable. nspawn: by tekton. nixos-container: as a container of NixOS
	// (/etc/nixos-containers, container@NAME.service); it boots a storePath or a flake and is updated in place.
	Runtime string `json:"runtime,omitempty" enum:"nspawn,nixos-container"`
	// Command to run, as a list; absent: the system's init boots.
	Command []string `json:"command,omitempty"`
	// User that the command runs as: a name of the system's passwd, or UID[:GID].
	User string `json:"user,omitempty"`
	// WorkingDirectory of the command.
	WorkingDirectory string `json:"workingDirectory,omitempty"`
	// Environment of the command.
	Environment map[string]string `json:"environment,omitempty"`
	// Volumes outlive machines.
	Volumes []Volume `json:"volumes,omitempty"`
	// Databases in the host's PostgreSQL, reachable from this machine only.
	Databases []Database `json:"databases,omitempty"`
	// Credentials out of the host's secrets.
	Credentials []Credential `json:"credentials,omitempty"`
	// Mounts of host paths; needs trust: trusted.
	Mounts []Mount `json:"mounts,omitempty"`
	// Routes of the ingress to this machine.
	Routes []Route `json:"routes,omitempty"`
	// Network says what the machine may reach and what reaches it.
	Network Network `json:"network,omitzero"`
	// Resources limit the machine, in systemd's units.
	Resources Resources `json:"resources,omitzero"`
	// Probe says when an instance answers; absent: a connection to the first route's port, else running on is enough.
	Probe *Probe `json:"probe,omitempty"`
	// TTL removes the object that long after it was created, as `tekton delete` does; absent or 0s: it stays.
	TTL *Duration `json:"ttl,omitempty"`
	// SleepAfter stops the machine when nobody has asked for its routes so long; the next request starts it again, and waits.
	// Health checks neither wake it nor keep it awake. Absent or 0s: it does not sleep.
	SleepAfter *Duration `json:"sleepAfter,omitempty"`
	// RestartPolicy when the machine ends by itself: Always, OnFailure, Never. What has ended so stays ended over reboots of
	// the host; what ran when the host went down, also by a power cut, is started again.
	RestartPolicy string `json:"restartPolicy,omitempty" enum:"Always,OnFailure,Never"`
	// StopTimeout between the request to stop and the kill.
	StopTimeout *Duration `json:"stopTimeout,omitempty"`
	// Update says how a change that needs a new start is rolled out.
	Update Update `json:"update,omitzero"`
	// Enabled false stops the machine and keeps its data.
	Enabled *bool `json:"enabled,omitempty"`
	// Reason why it is not enabled; shown in status.
	Reason string `json:"reason,omitempty"`
	// Paused true leaves the object as it is: no change, no repair.
	Paused bool `json:"paused,omitempty"`
	// DependsOn delays the first start until the named objects are Ready.
	DependsOn []string `json:"dependsOn,omitempty"`
	// Ephemeral starts with a clean root layer each time.
	Ephemeral bool `json:"ephemeral,omitempty"`
	// Trust is untrusted or trusted; each relaxation needs trusted.
	Trust string `json:"trust,omitempty" enum:"untrusted,trusted"`
	// Capabilities kept beyond the default set; needs trust: trusted.
	Capabilities []string `json:"capabilities,omitempty"`
	// UserNamespace false runs the machine with the host's own user ids; needs trust: trusted.
	UserNamespace *bool `json:"userNamespace,omitempty"`
	// Placement is reserved for several hosts.
	Placement Placement `json:"placement,omitzero"`

	// Login is whom ssh lets in; kinds that are lowered to a container set it.
	Login *Login `json:"-"`
	// Setup is what has to be done inside the running machine; kinds that are lowered to a container set it.
	Setup *SetupSpec `json:"-"`
	// Preview whose repository says what the rest of the machine is.
	Preview *Preview `json:"-"`
}

// System is where a machine's userland comes from.
type System struct {
	// Host true: the host's own userland, read-only; no image is needed.
	Host bool `json:"host,omitempty"`
	// RootFS is a directory of the host, the read-only lower layer.
	RootFS string `json:"rootfs,omitempty"`
	// StorePath is a built NixOS closure in the Nix store.
	StorePath string `json:"storePath,omitempty"`
	// Flake is built on the host: REFERENCE#ATTRIBUTE, such as git+https://example.org/app?ref=main#nixosConfigurations.app.config.system.build.toplevel.
	Flake string `json:"flake,omitempty"`
	// Refresh is how often a flake's reference that can move, such as a branch, is looked up again; absent: only when the flake field changes.
	Refresh *Duration `json:"refresh,omitempty"`
}

// Volume is a data directory at a path of the machine.
type Volume struct {
	// Name is a DNS label, unique in the object; the data is found by it again.
	Name string `json:"name"`
	// Path in the machine where the volume appears.
	Path string `json:"path"`
	// SizeMax bounds the volume where the host's file system has project quotas.
	SizeMax *Quantity `json:"sizeMax,omitempty"`
	// DeletionPolicy when the object is deleted: Retain leaves the data for a later object of the same name, Delete moves it to the trash.
	DeletionPolicy string `json:"deletionPolicy,omitempty" enum:"Retain,Delete"`
	// Repository that a new volume is a clone of, its user's; later changes of it, here or there, change nothing in the volume.
	Repository *VolumeRepository `json:"repository,omitempty"`
}

// VolumeRepository is a git repository that the host fetches, and how.
type VolumeRepository struct {
	// URL of the repository: https://HOST/PATH or ssh://USER@HOST/PATH.
	URL string `json:"url"`
	// Ref is a branch, a tag, a whole commit, refs/…, or HEAD: the repository's default branch.
	Ref string `json:"ref,omitempty"`
	// Secret of the host that gives access: the token of an https url, the private key of an ssh one.
	Secret string `json:"secret,omitempty"`
	// User that the clone belongs to, as UID or UID:GID; absent: spec.user.
	User string `json:"user,omitempty"`
}

// Database is a PostgreSQL database of the object.
type Database struct {
	// Name is a DNS label, unique in the object; the data is found by it again.
	Name string `json:"name"`
	// Env is the variable that gets the URL.
	Env string `json:"env,omitempty"`
	// Extensions to create; those that PostgreSQL does not call trusted need trust: trusted.
	Extensions []string `json:"extensions,omitempty"`
	// Template is a database of the host's PostgreSQL that a new one is made as a copy of; it is marked there with IS_TEMPLATE.
	Template string `json:"template,omitempty"`
	// DeletionPolicy when the object is deleted: Retain leaves the data for a later object of the same name, Delete dumps it to the trash.
	DeletionPolicy string `json:"deletionPolicy,omitempty" enum:"Retain,Delete"`
}

// Credential delivers a secret of the host.
type Credential struct {
	// Name of the credential, unique in the object.
	Name string `json:"name"`
	// Secret of the host; absent: the credential's name.
	Secret string `json:"secret,omitempty"`
	// Path of the file inside, below /run; absent with env absent: /run/credentials/NAME.
	Path string `json:"path,omitempty"`
	// Env is the variable that gets the value.
	Env string `json:"env,omitempty"`
}

// Mount is a path of the host inside the machine.
type Mount struct {
	// HostPath is a directory or file of the host.
	HostPath string `json:"hostPath"`
	// Path in the machine where it appears.
	Path string `json:"path"`
	// ReadOnly false lets the machine write to it.
	ReadOnly *bool `json:"readOnly,omitempty"`
}

// Route is one (host, path) of the ingress.
type Route struct {
	// Host is a DNS name in lower case, or "*.DOMAIN" for every name one label below DOMAIN.
	Host string `json:"host"`
	// Path that requests start with, or equal.
	Path string `json:"path,omitempty"`
	// PathType: Prefix matches the path and all below it, Exact only the path itself.
	PathType string `json:"pathType,omitempty" enum:"Prefix,Exact"`
	// Port of the machine that gets the requests.
	Port int `json:"port" min:"1" max:"65535"`
	// StripPrefix removes the path before the machine sees the request.
	StripPrefix bool `json:"stripPrefix,omitempty"`
	// TLS of the host name: off, internal (the proxy's own authority), files (a certificate of Host.spec.ingress.certificates),
	// acme (from a public authority, Host.spec.ingress.acme, which asks this host for proof at the name's address).
	TLS string `json:"tls,omitempty" enum:"off,internal,files,acme"`
}

// Network of a machine.
type Network struct {
	// Egress is what the machine may reach outside.
	Egress Egress `json:"egress,omitzero"`
	// Links to ports of other objects' machines.
	Links []NetworkLink `json:"links,omitempty"`
	// Ports published on the host.
	Ports []Port `json:"ports,omitempty"`
}

// Egress says what the machine may reach outside.
type Egress struct {
	// Mode: internet (public addresses only), none, all (private networks too; needs trust: trusted).
	Mode string `json:"mode,omitempty" enum:"internet,none,all"`
	// Allow lists destinations beyond the mode: "10.1.2.0/24", "192.168.1.5:443", "1.2.3.4:53/udp"; private ones need trust: trusted.
	Allow []string `json:"allow,omitempty"`
}

// NetworkLink lets the machine reach a port of another object's machine.
type NetworkLink struct {
	// To is the name of the other object; its machine is found as TO.tekton.internal.
	To string `json:"to"`
	// Port of the other machine.
	Port int `json:"port" min:"1" max:"65535"`
	// Protocol of the port.
	Protocol string `json:"protocol,omitempty" enum:"tcp,udp"`
}

// Port publishes a port of the machine on the host.
type Port struct {
	// HostPort is the port on the host.
	HostPort int `json:"hostPort" min:"1" max:"65535"`
	// Port of the machine; absent: the same as hostPort.
	Port int `json:"port,omitempty" min:"1" max:"65535"`
	// Protocol of the port.
	Protocol string `json:"protocol,omitempty" enum:"tcp,udp"`
	// HostIP is the host's IPv4 address to publish on, 0.0.0.0 for all; required unless Host.spec.publishAddress is set.
	HostIP string `json:"hostIP,omitempty"`
}

// Resources limit a machine.
type Resources struct {
	// MemoryMax kills what exceeds it.
	MemoryMax *Quantity `json:"memoryMax,omitempty"`
	// MemoryHigh slows down what exceeds it.
	MemoryHigh *Quantity `json:"memoryHigh,omitempty"`
	// CPUQuota in percent of one CPU: "150%" is one and a half.
	CPUQuota string `json:"cpuQuota,omitempty"`
	// CPUWeight against other machines when the CPU is short; 100 is normal.
	CPUWeight int `json:"cpuWeight,omitempty" min:"1" max:"10000"`
	// IOWeight against other machines when the disk is busy; 100 is normal.
	IOWeight int `json:"ioWeight,omitempty" min:"1" max:"10000"`
	// TasksMax bounds processes and threads.
	TasksMax int `json:"tasksMax,omitempty" min:"1"`
	// DiskMax bounds the writable root layer where the host's file system has project quotas.
	DiskMax *Quantity `json:"diskMax,omitempty"`
}

// Probe says when an instance answers. At most one of HTTP and TCP is set.
type Probe struct {
	// HTTP asks for a page.
	HTTP *HTTPProbe `json:"http,omitempty"`
	// TCP connects.
	TCP *TCPProbe `json:"tcp,omitempty"`
	// Timeout of one try.
	Timeout *Duration `json:"timeout,omitempty"`
	// Deadline for the first success.
	Deadline *Duration `json:"deadline,omitempty"`
	// Interval of probes after the first success; absent: none.
	Interval *Duration `json:"interval,omitempty"`
}

// HTTPProbe is a GET that answers 200..399.
type HTTPProbe struct {
	// Path of the request.
	Path string `json:"path,omitempty"`
	// Port of the machine.
	Port int `json:"port" min:"1" max:"65535"`
}

// TCPProbe is a connection.
type TCPProbe struct {
	// Port of the machine.
	Port int `json:"port" min:"1" max:"65535"`
}

// Update says how a change that needs a new start is rolled out.
type Update struct {
	// Strategy: Auto (Overlap where possible), Overlap, Recreate.
	Strategy string `json:"strategy,omitempty" enum:"Auto,Overlap,Recreate"`
}

// Placement is reserved for several hosts.
type Placement struct {
	// Host that the object is meant for. With one host it is only checked.
	Host string `json:"host,omitempty"`
}
