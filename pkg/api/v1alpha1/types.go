package v1alpha1

// TypeMeta says what a document is.
type TypeMeta struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
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
	Metadata ObjectMeta    `json:"metadata"`
	Spec     ContainerSpec `json:"spec"`
}

// ContainerSpec says what a container is to be.
type ContainerSpec struct {
	// System is where the userland comes from; exactly one field is set.
	System System `json:"system"`
	// Runtime that runs the machine; immutable.
	Runtime string `json:"runtime,omitempty"`
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
	// Probe says when an instance answers; absent: a connection to the first route's port, else running is enough.
	Probe *Probe `json:"probe,omitempty"`
	// RestartPolicy when the machine ends by itself: Always, OnFailure, Never.
	RestartPolicy string `json:"restartPolicy,omitempty"`
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
	Trust string `json:"trust,omitempty"`
	// Capabilities kept beyond the default set; needs trust: trusted.
	Capabilities []string `json:"capabilities,omitempty"`
	// Placement is reserved for several hosts.
	Placement Placement `json:"placement,omitzero"`
}

// System is where a machine's userland comes from.
type System struct {
	// Host true: the host's own userland, read-only; no image is needed.
	Host bool `json:"host,omitempty"`
	// RootFS is a directory of the host, the read-only lower layer.
	RootFS string `json:"rootfs,omitempty"`
	// StorePath is a built NixOS closure in the Nix store.
	StorePath string `json:"storePath,omitempty"`
	// Flake is built on the host. It arrives with a later version and is refused until then.
	Flake string `json:"flake,omitempty"`
}

// Volume is a data directory at a path of the machine.
type Volume struct {
	Name           string    `json:"name"`
	Path           string    `json:"path"`
	SizeMax        *Quantity `json:"sizeMax,omitempty"`
	DeletionPolicy string    `json:"deletionPolicy,omitempty"` // Retain, Delete
}

// Database is a PostgreSQL database of the object.
type Database struct {
	Name string `json:"name"`
	// Env is the variable that gets the URL.
	Env            string   `json:"env,omitempty"`
	Extensions     []string `json:"extensions,omitempty"`
	DeletionPolicy string   `json:"deletionPolicy,omitempty"` // Retain, Delete
}

// Credential delivers a secret of the host.
type Credential struct {
	Name string `json:"name"`
	// Secret of the host; absent: the credential's name.
	Secret string `json:"secret,omitempty"`
	// Path of the file inside; absent with env absent: /run/credentials/NAME.
	Path string `json:"path,omitempty"`
	// Env is the variable that gets the value.
	Env string `json:"env,omitempty"`
}

// Mount is a path of the host inside the machine.
type Mount struct {
	HostPath string `json:"hostPath"`
	Path     string `json:"path"`
	ReadOnly *bool  `json:"readOnly,omitempty"`
}

// Route is one (host, path) of the ingress.
type Route struct {
	Host        string `json:"host"`
	Path        string `json:"path,omitempty"`
	PathType    string `json:"pathType,omitempty"` // Prefix, Exact
	Port        int    `json:"port"`
	StripPrefix bool   `json:"stripPrefix,omitempty"`
	TLS         string `json:"tls,omitempty"` // off, internal, files
}

// Network of a machine.
type Network struct {
	Egress Egress        `json:"egress,omitzero"`
	Links  []NetworkLink `json:"links,omitempty"`
	Ports  []Port        `json:"ports,omitempty"`
}

// Egress says what the machine may reach outside.
type Egress struct {
	Mode string `json:"mode,omitempty"` // internet, none, all
	// Allow lists destinations beyond the mode: "10.1.2.0/24", "192.168.1.5:443", "1.2.3.4:53/udp".
	Allow []string `json:"allow,omitempty"`
}

// NetworkLink lets the machine reach a port of another object's machine.
type NetworkLink struct {
	To       string `json:"to"`
	Port     int    `json:"port"`
	Protocol string `json:"protocol,omitempty"` // tcp, udp
}

// Port publishes a port of the machine on the host.
type Port struct {
	HostPort int    `json:"hostPort"`
	Port     int    `json:"port,omitempty"`
	Protocol string `json:"protocol,omitempty"` // tcp, udp
	HostIP   string `json:"hostIP,omitempty"`
}

// Resources limit a machine.
type Resources struct {
	MemoryMax  *Quantity `json:"memoryMax,omitempty"`
	MemoryHigh *Quantity `json:"memoryHigh,omitempty"`
	CPUQuota   string    `json:"cpuQuota,omitempty"` // "150%"
	CPUWeight  int       `json:"cpuWeight,omitempty"`
	IOWeight   int       `json:"ioWeight,omitempty"`
	TasksMax   int       `json:"tasksMax,omitempty"`
	DiskMax    *Quantity `json:"diskMax,omitempty"`
}

// Probe says when an instance answers. At most one of HTTP and TCP is set.
type Probe struct {
	HTTP *HTTPProbe `json:"http,omitempty"`
	TCP  *TCPProbe  `json:"tcp,omitempty"`
	// Timeout of one try.
	Timeout *Duration `json:"timeout,omitempty"`
	// Deadline for the first success.
	Deadline *Duration `json:"deadline,omitempty"`
	// Interval of probes after the first success; absent: none.
	Interval *Duration `json:"interval,omitempty"`
}

// HTTPProbe is a GET that answers 200..399.
type HTTPProbe struct {
	Path string `json:"path,omitempty"`
	Port int    `json:"port"`
}

// TCPProbe is a connection.
type TCPProbe struct {
	Port int `json:"port"`
}

// Update says how a change that needs a new start is rolled out.
type Update struct {
	// Strategy: Auto (Overlap where possible), Overlap, Recreate.
	Strategy string `json:"strategy,omitempty"`
}

// Placement is reserved for several hosts.
type Placement struct {
	Host string `json:"host,omitempty"`
}
