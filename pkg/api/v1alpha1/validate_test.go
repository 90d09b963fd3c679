package v1alpha1

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func lines(errs field.ErrorList) []string {
	var out []string
	for _, e := range errs {
		out = append(out, e.Field+": "+e.Detail)
	}
	slices.Sort(out)
	return out
}

func TestFullContainerIsValid(t *testing.T) {
	c := full()
	c.Default(nil)
	if got := lines(c.Validate(nil)); len(got) > 0 {
		t.Errorf("problems:\n%s", strings.Join(got, "\n"))
	}
}

func TestContainerValidate(t *testing.T) {
	trusted := func(s *ContainerSpec) { s.Trust = "trusted" }
	tests := map[string]struct {
		change func(c *Container)
		want   []string // field: beginning of the detail
	}{
		"no name":         {func(c *Container) { c.Metadata.Name = "" }, []string{"metadata.name: give the object a name"}},
		"long name":       {func(c *Container) { c.Metadata.Name = strings.Repeat("x", 41) }, []string{"metadata.name: has 41 characters; at most 40"}},
		"upper case name": {func(c *Container) { c.Metadata.Name = "Web" }, []string{`metadata.name: must consist of a-z, 0-9 and '-', beginning and ending with a letter or digit; did you mean "web"?`}},
		"label value":     {func(c *Container) { c.Metadata.Labels["app"] = "a b" }, []string{"metadata.labels[app]: is not a label value"}},
		"no system":       {func(c *Container) { c.Spec.System = System{} }, []string{"spec.system: set exactly one"}},
		"two systems":     {func(c *Container) { c.Spec.System.RootFS = "/srv/root" }, []string{"spec.system: has host and rootfs"}},
		"flake": {func(c *Container) {
			c.Spec.System = System{Flake: "github:a/b?ref=main#packages.x86_64-linux.\"web.1\""}
		}, nil},
		"flake without attr": {func(c *Container) { c.Spec.System = System{Flake: "github:a/b"} }, []string{"spec.system.flake: must be REFERENCE#ATTRIBUTE"}},
		"flake of registry":  {func(c *Container) { c.Spec.System = System{Flake: "nixpkgs#hello"} }, []string{"spec.system.flake: must be REFERENCE#ATTRIBUTE"}},
		"relative flake":     {func(c *Container) { c.Spec.System = System{Flake: ".#hello"} }, []string{"spec.system.flake: must be REFERENCE#ATTRIBUTE"}},
		"flake as option":    {func(c *Container) { c.Spec.System = System{Flake: "--impure#x"} }, []string{"spec.system.flake: must be REFERENCE#ATTRIBUTE"}},
		"flake with space":   {func(c *Container) { c.Spec.System = System{Flake: "path:/a b#x"} }, []string{"spec.system.flake: must be REFERENCE#ATTRIBUTE"}},
		"flake with secret":  {func(c *Container) { c.Spec.System = System{Flake: "git+https://me:secret@example.org/a#x"} }, []string{"spec.system.flake: holds a password"}},
		"flake with token":   {func(c *Container) { c.Spec.System = System{Flake: "https://example.org/a.tar.gz?token=abc#x"} }, []string{"spec.system.flake: holds a password"}},
		"refresh alone":      {func(c *Container) { c.Spec.System.Refresh = &Duration{time.Hour} }, []string{"spec.system.refresh: belongs to a flake"}},
		"refresh too often":  {func(c *Container) { c.Spec.System = System{Flake: "/srv/a#x", Refresh: &Duration{time.Second}} }, []string{"spec.system.refresh: "}},
		"host as rootfs":     {func(c *Container) { c.Spec.System = System{RootFS: "/"} }, []string{"spec.system.rootfs: is the host itself"}},
		"store elsewhere":    {func(c *Container) { c.Spec.System = System{StorePath: "/srv/x"} }, []string{"spec.system.storePath: must lie below /nix/store"}},
		"runtime":            {func(c *Container) { c.Spec.Runtime = "docker" }, []string{"spec.runtime: must be one of nspawn, nixos-container"}},
		"host without cmd":   {func(c *Container) { c.Spec.Command, c.Spec.User, c.Spec.WorkingDirectory = nil, "", "" }, []string{"spec.command: the host's own userland has no init"}},
		"init and user":      {func(c *Container) { c.Spec.System = System{RootFS: "/srv/r"}; c.Spec.Command = nil }, []string{"spec.user: belongs to a command", "spec.workingDirectory: belongs to a command"}},
		"one word command":   {func(c *Container) { c.Spec.Command = []string{"sleep inf"} }, []string{"spec.command[0]: is one word to tekton"}},
		"user":               {func(c *Container) { c.Spec.User = "70000" }, []string{"spec.user: must be a user name"}},
		"user of a group":    {func(c *Container) { c.Spec.User = "1000:100" }, nil},
		"relative cwd":       {func(c *Container) { c.Spec.WorkingDirectory = "srv" }, []string{"spec.workingDirectory: must be an absolute path"}},
		"env name":           {func(c *Container) { c.Spec.Environment["A-B"] = "" }, []string{"spec.environment[A-B]: is not a variable's name"}},
		"env twice":          {func(c *Container) { c.Spec.Environment["KEY"] = "" }, []string{"spec.credentials[1].env: spec.environment[KEY]"}},
		"database env":       {func(c *Container) { c.Spec.Environment["DATABASE_URL"] = "" }, []string{"spec.databases[0].env: spec.environment[DATABASE_URL]"}},
		"database twice":     {func(c *Container) { c.Spec.Databases[1].Name = "main" }, []string{"spec.databases[1].name: spec.databases[0].name"}},
		"extension":          {func(c *Container) { c.Spec.Databases[0].Extensions = []string{"dblink"} }, []string{"spec.databases[0].extensions[0]: an extension that acts with the server's rights needs trust"}},
		"trusted extension":  {func(c *Container) { c.Spec.Databases[0].Extensions = []string{"dblink"}; trusted(&c.Spec) }, nil},
		"volume path":        {func(c *Container) { c.Spec.Volumes[0].Path = "/data/../x/" }, []string{`spec.volumes[0].path: must be written in its shortest form: "/x"`}},
		"volume in proc":     {func(c *Container) { c.Spec.Volumes[0].Path = "/proc/x" }, []string{"spec.volumes[0].path: lies in /proc"}},
		"volume in usr":      {func(c *Container) { c.Spec.Volumes[0].Path = "/usr/share" }, []string{"spec.volumes[0].path: lies in a directory of the host"}},
		"control in path":    {func(c *Container) { c.Spec.Volumes[0].Path = "/a\nb" }, []string{"spec.volumes[0].path: holds a control character"}},
		"volume policy":      {func(c *Container) { c.Spec.Volumes[0].DeletionPolicy = "retain" }, []string{`spec.volumes[0].deletionPolicy: must be one of Retain, Delete; did you mean "Retain"?`}},
		"small size":         {func(c *Container) { c.Spec.Volumes[0].SizeMax.Bytes = 512 }, []string{"spec.volumes[0].sizeMax: is 512 bytes"}},
		"credential path":    {func(c *Container) { c.Spec.Credentials[0].Path = "/etc/token" }, []string{"spec.credentials[0].path: must lie below /run"}},
		"credential name":    {func(c *Container) { c.Spec.Credentials[0] = Credential{Name: "a/b", Secret: "../x", Env: "X"} }, []string{"spec.credentials[0].name: must be letters", "spec.credentials[0].secret: must be letters"}},
		"same path":          {func(c *Container) { c.Spec.Volumes[0].Path = "/run/credentials/token" }, []string{"spec.credentials[0].path: spec.volumes[0].path"}},
		"mount":              {func(c *Container) { c.Spec.Mounts = []Mount{{HostPath: "/srv", Path: "/srv"}} }, []string{"spec.mounts: a mount of the host needs trust: trusted"}},
		"trusted mount":      {func(c *Container) { c.Spec.Mounts = []Mount{{HostPath: "/srv", Path: "/srv"}}; trusted(&c.Spec) }, nil},
		"capabilities":       {func(c *Container) { c.Spec.Capabilities = []string{"NET_ADMIN"} }, []string{"spec.capabilities: keeping capabilities needs", `spec.capabilities[0]: did you mean "CAP_NET_ADMIN"?`}},
		"no user namespace":  {func(c *Container) { c.Spec.UserNamespace = new(false) }, []string{"spec.userNamespace: running with the host's user ids needs trust"}},
		"egress all":         {func(c *Container) { c.Spec.Network.Egress.Mode = "all" }, []string{"spec.network.egress.mode: reaching private networks (all) needs trust"}},
		"private range":      {func(c *Container) { c.Spec.Network.Egress.Allow = []string{"10.1.2.0/24"} }, []string{"spec.network.egress.allow[0]: is not on the public internet"}},
		"everything":         {func(c *Container) { c.Spec.Network.Egress.Allow = []string{"0.0.0.0/0"} }, []string{"spec.network.egress.allow[0]: is not on the public internet"}},
		"own subnet":         {func(c *Container) { c.Spec.Network.Egress.Allow = []string{"10.100.0.7"}; trusted(&c.Spec) }, []string{"spec.network.egress.allow[0]: is a machine of this host"}},
		"host bits":          {func(c *Container) { c.Spec.Network.Egress.Allow = []string{"1.2.3.4/24"} }, []string{"spec.network.egress.allow[0]: has bits set beyond its mask; did you mean 1.2.3.0/24?"}},
		"IPv6":               {func(c *Container) { c.Spec.Network.Egress.Allow = []string{"2001:db8::1"} }, []string{"spec.network.egress.allow[0]: IPv6 is closed"}},
		"link to itself":     {func(c *Container) { c.Spec.Network.Links[0].To = "web" }, []string{"spec.network.links[0].to: is the object itself"}},
		"depends on itself":  {func(c *Container) { c.Spec.DependsOn = []string{"web"} }, []string{"spec.dependsOn[0]: is the object itself"}},
		"port range":         {func(c *Container) { c.Spec.Network.Links[0].Port = 70000 }, []string{"spec.network.links[0].port: must be from 1 to 65535"}},
		"no hostIP":          {func(c *Container) { c.Spec.Network.Ports[0].HostIP = "" }, []string{"spec.network.ports[0].hostIP: say on which address"}},
		"ingress port":       {func(c *Container) { c.Spec.Network.Ports[0].HostPort = 443 }, []string{"spec.network.ports[0].hostPort: on 0.0.0.0/tcp is already used by the host's ingress"}},
		"container": {func(c *Container) {
			c.Spec = ContainerSpec{Runtime: "nixos-container", System: System{StorePath: "/nix/store/a-b"}}
		}, nil},
		"container of a flake": {func(c *Container) {
			c.Spec = ContainerSpec{Runtime: "nixos-container", System: System{Flake: "git+https://example.org/app?ref=main#nixosConfigurations.app.config.system.build.toplevel"}}
		}, nil},
		"container's limits": {func(c *Container) {
			c.Spec = ContainerSpec{Runtime: "nixos-container", System: System{Host: true}, Command: []string{"x"}, Ephemeral: true, RestartPolicy: "Never"}
			c.Default(nil)
		}, []string{
			"spec.command: is not for runtime nixos-container: the system's own init boots", "spec.ephemeral: is not for runtime nixos-container",
			"spec.restartPolicy: is not for runtime nixos-container", "spec.runtime: boots a NixOS system; set spec.system.storePath or spec.system.flake",
		}},
		"container's paths": {func(c *Container) {
			c.Spec = ContainerSpec{
				Runtime: "nixos-container", System: System{StorePath: "/nix/store/a-b"}, Trust: "trusted", Credentials: []Credential{{Name: "key", Path: "/run/a b"}},
				Volumes: []Volume{{Name: "data", Path: "/data*"}}, Mounts: []Mount{{HostPath: "/srv/a:b", Path: "/srv/$x"}},
			}
			c.Default(nil)
		}, []string{
			"spec.credentials[0].path: holds ' '", "spec.mounts[0].hostPath: holds ':'", "spec.mounts[0].path: holds '$'", "spec.volumes[0].path: holds '*', which the unit container@",
		}},
		"port twice": {func(c *Container) {
			c.Spec.Network.Ports = append(c.Spec.Network.Ports, Port{HostPort: 2222, HostIP: "192.0.2.1", Protocol: "tcp"})
		}, []string{"spec.network.ports[1].hostPort: on 192.0.2.1/tcp is already used by spec.network.ports[0]"}},
		"route host":         {func(c *Container) { c.Spec.Routes[0].Host = "WEB.example.org" }, []string{`spec.routes[0].host: is not a DNS name in lower case such as www.example.org; did you mean "web.example.org"?`}},
		"route address":      {func(c *Container) { c.Spec.Routes[0].Host = "192.0.2.1" }, []string{"spec.routes[0].host: is an address"}},
		"wildcard authority": {func(c *Container) { c.Spec.Routes[0].Host, c.Spec.Routes[0].TLS = "*.example.org", "acme" }, []string{`spec.routes[0].tls: is not possible for "*.example.org"`}},
		"authority":          {func(c *Container) { c.Spec.Routes[0].TLS = "acme" }, nil},
		"route wildcard":     {func(c *Container) { c.Spec.Routes[0].Host = "a.*.org" }, []string{"spec.routes[0].host: may have '*' only"}},
		"route injection":    {func(c *Container) { c.Spec.Routes[0].Path = "/a {\n respond" }, []string{"spec.routes[0].path: holds a control character"}},
		"route brace":        {func(c *Container) { c.Spec.Routes[0].Path = "/{env.X}" }, []string{"spec.routes[0].path: may hold letters"}},
		"route slash":        {func(c *Container) { c.Spec.Routes[0].Path = "/a/" }, []string{`spec.routes[0].path: ends with '/'; write "/a"`}},
		"route twice":        {func(c *Container) { c.Spec.Routes[1] = c.Spec.Routes[0] }, []string{"spec.routes[1]: spec.routes[0]"}},
		"short sleep":        {func(c *Container) { c.Spec.SleepAfter, c.Spec.Network.Ports = &Duration{time.Second}, nil }, []string{"spec.sleepAfter: must be at least 10s"}},
		"sleep":              {func(c *Container) { c.Spec.SleepAfter, c.Spec.Network.Ports = &Duration{time.Hour}, nil }, nil},
		"sleep beside ports": {func(c *Container) { c.Spec.SleepAfter = &Duration{time.Hour} }, []string{"spec.sleepAfter: cannot be set beside network.ports"}},
		"nobody can wake": {func(c *Container) {
			c.Spec.SleepAfter, c.Spec.Network.Ports, c.Spec.Routes = &Duration{time.Hour}, nil, nil
		}, []string{"spec.sleepAfter: needs routes"}},
		"sleeps never":      {func(c *Container) { c.Spec.SleepAfter, c.Spec.Routes = &Duration{}, nil }, nil},
		"route files":       {func(c *Container) { c.Spec.Routes[0].TLS = "files" }, []string{`spec.routes[0].tls: needs a certificate for "web.example.org"`}},
		"two probes":        {func(c *Container) { c.Spec.Probe.TCP = &TCPProbe{Port: 1} }, []string{"spec.probe: has http and tcp"}},
		"probe timeout":     {func(c *Container) { c.Spec.Probe.Timeout = &Duration{time.Hour} }, []string{"spec.probe.timeout: of one try must not be longer"}},
		"cpu quota":         {func(c *Container) { c.Spec.Resources.CPUQuota = "1.5" }, []string{"spec.resources.cpuQuota: must be a percentage of one CPU"}},
		"weight":            {func(c *Container) { c.Spec.Resources.CPUWeight = 10001 }, []string{"spec.resources.cpuWeight: must be from 1 to 10000"}},
		"memory high":       {func(c *Container) { c.Spec.Resources.MemoryHigh = &Quantity{Bytes: 1 << 40} }, []string{"spec.resources.memoryHigh: must not be more than memoryMax"}},
		"stop timeout":      {func(c *Container) { c.Spec.StopTimeout = &Duration{-time.Second} }, []string{"spec.stopTimeout: must be at least 0s"}},
		"restart policy":    {func(c *Container) { c.Spec.RestartPolicy = "always" }, []string{`spec.restartPolicy: must be one of Always, OnFailure, Never; did you mean "Always"?`}},
		"overlap volumes":   {func(c *Container) { c.Spec.Update.Strategy = "Overlap" }, []string{"spec.update.strategy: needs two instances side by side, but both would write to volume data"}},
		"overlap databases": {func(c *Container) { c.Spec.Update.Strategy, c.Spec.Volumes, c.Spec.Network.Ports = "Overlap", nil, nil }, nil},
		"placement":         {func(c *Container) { c.Spec.Placement.Host = "a b" }, []string{"spec.placement.host: is not a DNS name"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := full()
			c.Default(nil)
			test.change(c)
			matchLines(t, test.want, lines(c.Validate(nil)))
		})
	}
}

// matchLines compares the beginnings of lines.
func matchLines(t *testing.T, want, got []string) {
	t.Helper()
	cut := slices.Clone(got)
	for i := range cut {
		if i < len(want) && strings.HasPrefix(cut[i], want[i]) {
			cut[i] = want[i]
		}
	}
	if diff := cmp.Diff(want, cut); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestContainerValidateOnOtherHosts(t *testing.T) {
	tests := map[string]struct {
		host HostSpec
		want []string
	}{
		"no ingress":       {HostSpec{Ingress: IngressConfig{Mode: "none"}}, []string{"spec.routes: this host has no ingress"}},
		"no PostgreSQL":    {HostSpec{Postgres: PostgresConfig{Mode: "none"}}, []string{"spec.databases: this host has no PostgreSQL"}},
		"no TLS":           {HostSpec{Ingress: IngressConfig{HTTPSPort: new(0)}}, []string{"spec.routes[0].tls: is not possible"}},
		"wildcard file":    {HostSpec{Ingress: IngressConfig{Certificates: []Certificate{{Hosts: []string{"*.example.org"}}}}}, nil},
		"deeper than wild": {HostSpec{Ingress: IngressConfig{Certificates: []Certificate{{Hosts: []string{"*.org"}}}}}, []string{"spec.routes[0].tls: needs a certificate"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := Host{Spec: test.host}
			h.Default()
			c := full()
			c.Spec.Routes = c.Spec.Routes[:1]
			switch {
			case len(h.Spec.Ingress.Certificates) > 0:
				c.Spec.Routes[0].TLS = "files"
			case name == "no TLS":
				c.Spec.Routes[0].TLS = "internal"
			}
			c.Default(&h.Spec)
			matchLines(t, test.want, lines(c.Validate(&h.Spec)))
		})
	}
}

func TestHostValidate(t *testing.T) {
	allow := func(h *Host, a Admission) { h.Spec.Sources[0].Allow = &a }
	tests := map[string]struct {
		change func(h *Host)
		want   []string
	}{
		"default":         {func(*Host) {}, nil},
		"reading group":   {func(h *Host) { h.Spec.ReadSocketGroup = "a b" }, []string{"spec.readSocketGroup: must be a name"}},
		"operating group": {func(h *Host) { h.Spec.OperateSocketGroup = "a b" }, []string{"spec.operateSocketGroup: must be a name"}},
		"odd repository": {func(h *Host) {
			allow(h, Admission{Repositories: []string{"*", "https://a.test/*", "shop", "shop-*", "Shop"}})
		}, []string{"spec.sources[0].allow.repositories[4]: must consist of"}},
		"instance digit":     {func(h *Host) { h.Spec.Instance = "a1" }, []string{"spec.instance: must be 1 to 4 characters"}},
		"long instance":      {func(h *Host) { h.Spec.Instance = "abcde" }, []string{"spec.instance: must be 1 to 4 characters"}},
		"relative state":     {func(h *Host) { h.Spec.StateDir = "state" }, []string{"spec.stateDir: must be an absolute path"}},
		"root as state":      {func(h *Host) { h.Spec.StateDir = "/" }, []string{"spec.stateDir: must be a directory of tekton's own"}},
		"same directories":   {func(h *Host) { h.Spec.RunDir = h.Spec.StateDir }, []string{"spec.runDir: spec.stateDir"}},
		"wide subnet":        {func(h *Host) { h.Spec.Subnet = "10.0.0.0/8" }, []string{"spec.subnet: must be from /16"}},
		"public subnet":      {func(h *Host) { h.Spec.Subnet = "8.8.0.0/16" }, []string{"spec.subnet: must lie in a private network"}},
		"subnet bits":        {func(h *Host) { h.Spec.Subnet = "10.100.1.0/16" }, []string{"spec.subnet: has bits set beyond its mask; did you mean 10.100.0.0/16?"}},
		"supervisor":         {func(h *Host) { h.Spec.Runtime.Supervisor = "runit" }, []string{"spec.runtime.supervisor: must be one of auto, supervised, systemd"}},
		"same ports":         {func(h *Host) { h.Spec.Ingress.HTTPSPort = new(80) }, []string{"spec.ingress.httpsPort: is also the httpPort"}},
		"TLS without port":   {func(h *Host) { h.Spec.Ingress.HTTPSPort = new(0) }, []string{"spec.ingress.tls: needs an httpsPort"}},
		"negative port":      {func(h *Host) { h.Spec.Ingress.HTTPSPort = new(-1) }, []string{"spec.ingress.httpsPort: must be from 0 to 65535"}},
		"certificate":        {func(h *Host) { h.Spec.Ingress.Certificates = []Certificate{{}} }, []string{"spec.ingress.certificates[0].certFile: name a PEM file", "spec.ingress.certificates[0].hosts: name the hosts", "spec.ingress.certificates[0].keyFile: name a PEM file"}},
		"PostgreSQL as root": {func(h *Host) { h.Spec.Postgres.User = "root" }, []string{"spec.postgres.user: is refused by PostgreSQL"}},
		"connection limit":   {func(h *Host) { h.Spec.Postgres.ConnectionLimit = 500 }, []string{"spec.postgres.connectionLimit: of one role"}},
		"upstream":           {func(h *Host) { h.Spec.DNS.Upstreams = []string{"9.9.9.9", "dns.example"} }, []string{"spec.dns.upstreams[1]: must be the address"}},
		"metrics address":    {func(h *Host) { h.Spec.Metrics.Address = ":9842" }, []string{"spec.metrics.address: must be an address and a port"}},
		"notifications": {func(h *Host) {
			h.Spec.Notifications = []Notification{{Name: "a", Command: []string{"notify-send"}, User: "me"}, {Name: "b", URL: "https://example.org/hook", TokenFile: "/run/token"}}
		}, nil},
		"silent notification": {func(h *Host) { h.Spec.Notifications = []Notification{{Name: "a"}} }, []string{"spec.notifications[0]: write a command or a url"}},
		"one word notification": {func(h *Host) {
			h.Spec.Notifications = []Notification{{Name: "a", User: "me", Command: []string{"echo hi"}}}
		}, []string{"spec.notifications[0].command[0]: is one word to tekton"}},
		"notification's password": {func(h *Host) {
			h.Spec.Notifications = []Notification{{Name: "a", URL: "https://me:secret@example.org/", User: "x"}, {Name: "a", URL: "example.org"}}
		}, []string{"spec.notifications[0].url: must not hold a password", "spec.notifications[0].user: goes with a command", "spec.notifications[1].name: spec.notifications[0].name", "spec.notifications[1].url: must be https://HOST/PATH"}},
		"authority": {func(h *Host) {
			h.Spec.Ingress.ACME = ACMEConfig{Directory: "http://ca.test/dir", Email: "Admin <a@example.org>", RootsFile: "ca.pem"}
		}, []string{"spec.ingress.acme.directory: must be https://HOST/PATH", "spec.ingress.acme.email: must be an address", "spec.ingress.acme.rootsFile: must be an absolute path"}},
		"no sources":     {func(h *Host) { h.Spec.Sources = []SourceConfig{} }, []string{"spec.sources: name at least one"}},
		"source twice":   {func(h *Host) { h.Spec.Sources = append(h.Spec.Sources, h.Spec.Sources[0]) }, []string{"spec.sources[1].name: spec.sources[0].name", "spec.sources[1].path: spec.sources[0].path"}},
		"git and path":   {func(h *Host) { h.Spec.Sources[0].Git = repository("https://example.org/a.git") }, []string{"spec.sources[0].path: is of a directory"}},
		"admitted kind":  {func(h *Host) { allow(h, Admission{Kinds: []string{"container"}}) }, []string{`spec.sources[0].allow.kinds[0]: must be one of Agent, Container, Preview, Repository; did you mean "Container"?`}},
		"admitted trust": {func(h *Host) { allow(h, Admission{MaxTrust: "full"}) }, []string{"spec.sources[0].allow.maxTrust: must be one of"}},
		"admitted port":  {func(h *Host) { allow(h, Admission{HostPorts: []string{"9000-8000"}}) }, []string{"spec.sources[0].allow.hostPorts[0]: must be a port or a range"}},
		"admitted path":  {func(h *Host) { allow(h, Admission{HostPaths: []string{"srv"}}) }, []string{"spec.sources[0].allow.hostPaths[0]: must be an absolute path"}},
		"admitted everything": {func(h *Host) {
			allow(h, Admission{LinkTargets: []string{"*"}, Secrets: []string{"*"}, Domains: []string{"*.example.org"}, HostPorts: []string{"25"}})
		}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := DefaultHost()
			test.change(h)
			matchLines(t, test.want, lines(h.Validate()))
		})
	}
}

func TestNeeds(t *testing.T) {
	c := full()
	c.Spec.System, c.Spec.Mounts = System{RootFS: "/srv/root"}, []Mount{{HostPath: "/srv/x", Path: "/x"}}
	c.Default(nil)
	var got []string
	for _, n := range c.Needs() {
		got = append(got, string(n.Sort)+" "+n.Value+" "+n.Path.String())
	}
	want := []string{
		"trust untrusted spec.trust",
		"hostPath /srv/root spec.system.rootfs",
		"secret token spec.credentials[0].name",
		"secret key spec.credentials[1].name",
		"hostPath /srv/x spec.mounts[0].hostPath",
		"domain web.example.org spec.routes[0].host",
		"domain *.web.example.org spec.routes[1].host",
		"linkTarget cache spec.network.links[0].to",
		"hostPort 2222 spec.network.ports[0].hostPort",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
