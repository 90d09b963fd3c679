package v1alpha1

import (
	"errors"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

var specPath = field.NewPath("spec")

// Validate reports everything that is wrong with a defaulted container on a
// host; h is a defaulted host, or nil for an embedded default one.
func (c *Container) Validate(h *HostSpec) field.ErrorList {
	v := newContainerCheck(&c.Spec, c.Metadata.Name, h)
	v.typeMeta(c.TypeMeta, KindContainer)
	v.metadata(c.Metadata)
	v.tags(reflect.ValueOf(c.Spec), specPath)
	v.system(specPath.Child("system"))
	v.runtime()
	v.command()
	v.environment()
	v.volumes()
	v.databases()
	v.credentials()
	v.mounts()
	v.routes()
	v.network()
	v.resources(specPath.Child("resources"), c.Spec.Resources)
	v.probe(specPath.Child("probe"), c.Spec.Probe, len(c.Spec.Routes) > 0)
	v.lifecycle()
	v.trust()
	return v.errs
}

// containerCheck carries what the checks of one container share.
type containerCheck struct {
	checker
	spec  *ContainerSpec
	host  *HostSpec
	name  string
	paths unique // in the machine
	env   unique // variable names
}

func newContainerCheck(s *ContainerSpec, name string, h *HostSpec) *containerCheck {
	return &containerCheck{spec: s, host: orDefaultHost(h), name: name, paths: unique{}, env: unique{}}
}

func (v *containerCheck) trusted() bool { return v.spec.Trust == "trusted" }

// needsTrust reports a relaxation that an untrusted object may not have.
func (v *containerCheck) needsTrust(p *field.Path, what string) {
	if !v.trusted() {
		v.forbidden(p, "%s needs trust: trusted; set spec.trust, or leave it out", what)
	}
}

func (v *containerCheck) system(p *field.Path) {
	s := v.spec.System
	var set []string
	if s.Host {
		set = append(set, "host")
	}
	if s.RootFS != "" {
		set = append(set, "rootfs")
		if v.absPath(p.Child("rootfs"), s.RootFS, "") && s.RootFS == "/" {
			v.invalid(p.Child("rootfs"), s.RootFS, "is the host itself; write system.host: true")
		}
	}
	if s.StorePath != "" {
		set = append(set, "storePath")
		if v.absPath(p.Child("storePath"), s.StorePath, "") && !strings.HasPrefix(s.StorePath, "/nix/store/") {
			v.invalid(p.Child("storePath"), s.StorePath, "must lie below /nix/store; a plain directory goes into system.rootfs")
		}
	}
	if s.Flake != "" {
		set = append(set, "flake")
		if err := checkFlake(s.Flake); err != nil {
			v.invalid(p.Child("flake"), s.Flake, "%v", err)
		}
	}
	if s.Refresh != nil && s.Flake == "" {
		v.forbidden(p.Child("refresh"), "belongs to a flake")
	}
	v.duration(p.Child("refresh"), s.Refresh, Duration{time.Minute})
	switch {
	case len(set) == 0:
		v.required(p, "set exactly one of host: true, rootfs, storePath, flake")
	case len(set) > 1:
		v.forbidden(p, "has %s; a machine has exactly one system", strings.Join(set, " and "))
	}
}

func (v *containerCheck) command() {
	p, s := specPath.Child("command"), v.spec
	if len(s.Command) == 0 {
		if s.System.Host {
			v.required(p, "the host's own userland has no init to boot; name a command as a list")
		}
		if s.User != "" {
			v.forbidden(specPath.Child("user"), "belongs to a command; without one the system's init boots and chooses its users")
		}
		if s.WorkingDirectory != "" {
			v.forbidden(specPath.Child("workingDirectory"), "belongs to a command; without one the system's init boots")
		}
		return
	}
	v.argv(p, s.Command)
	if _, _, _, err := ParseUser(s.User); err != nil {
		v.invalid(specPath.Child("user"), s.User, "%v", err)
	}
	v.absPath(specPath.Child("workingDirectory"), s.WorkingDirectory, "name a directory")
}

func (v *containerCheck) environment() {
	p := specPath.Child("environment")
	for _, name := range slices.Sorted(maps.Keys(v.spec.Environment)) {
		at := p.Key(name)
		if v.envName(at, name) {
			v.unique(v.env, name, at)
		}
		// The value may be confidential: it takes no part in the message.
		if strings.ContainsRune(v.spec.Environment[name], 0) {
			v.forbidden(at, "holds a NUL character, which no variable can have")
		}
	}
}

// minSleepAfter is longer than a machine takes to start: a request must not find
// it asleep again.
const minSleepAfter = 10 * time.Second

// sleepAfter of 0s is none.
func (v *checker) sleepAfter(p *field.Path, d *Duration) {
	if d != nil && d.Duration != 0 {
		v.duration(p, d, Duration{minSleepAfter})
	}
}

// wakeable refuses to let sleep what nobody can wake: only what comes through
// the ingress is seen, and what comes beside it would be cut off.
func (v *containerCheck) wakeable(p *field.Path) {
	s := v.spec
	v.sleepAfter(p, s.SleepAfter)
	if s.SleepAfter == nil || s.SleepAfter.Duration == 0 {
		return
	}
	if len(s.Routes) == 0 {
		v.forbidden(p, "needs routes: nothing else can wake it")
	}
	if len(s.Network.Ports) > 0 {
		v.forbidden(p, "cannot be set beside network.ports: connections to them neither wake it nor keep it awake")
	}
}

func (v *containerCheck) lifecycle() {
	s := v.spec
	v.duration(specPath.Child("stopTimeout"), s.StopTimeout, Duration{})
	v.ttl(specPath.Child("ttl"), s.TTL)
	v.wakeable(specPath.Child("sleepAfter"))
	v.reason()
	seen := unique{}
	for i, name := range s.DependsOn {
		p := specPath.Child("dependsOn").Index(i)
		v.otherObject(p, name, "depend on")
		v.unique(seen, name, p)
	}
	if s.Placement.Host != "" {
		v.domain(specPath.Child("placement", "host"), s.Placement.Host)
	}
	v.update()
}

func (c *checker) ttl(p *field.Path, ttl *Duration) {
	if ttl != nil && ttl.Duration != 0 {
		c.duration(p, ttl, Duration{minTTL})
	}
}

func (v *containerCheck) reason() {
	if hasControl(v.spec.Reason) {
		v.forbidden(specPath.Child("reason"), "holds a control character; write text on one line")
	}
}

// otherObject checks the name of another object.
func (v *containerCheck) otherObject(p *field.Path, name, verb string) {
	if v.label(p, name, "name an object") && name == v.name {
		v.invalid(p, name, "is the object itself; it cannot %s itself", verb)
	}
}

// update refuses a strategy that would let two instances write to the same
// place. Databases may be shared for a moment: PostgreSQL is made for that.
func (v *containerCheck) update() {
	s := v.spec
	if s.Update.Strategy != "Overlap" {
		return
	}
	if why := s.NoOverlap(); why != "" {
		v.invalid(specPath.Child("update", "strategy"), s.Update.Strategy, "needs two instances side by side, but %s; write Recreate, or Auto to let tekton choose", why)
	}
}

// Disabled reports whether the machine is to be stopped.
func (s *ContainerSpec) Disabled() bool { return s.Enabled != nil && !*s.Enabled }

// NoOverlap says why two instances of the object cannot run side by side
// during an update; empty: they can.
func (s *ContainerSpec) NoOverlap() string {
	switch {
	case len(s.Volumes) > 0:
		return "both would write to volume " + s.Volumes[0].Name
	case len(s.Network.Ports) > 0:
		return "both would publish the same host port"
	case s.KeepsRoot():
		return "both would write to the kept root of its system"
	}
	for _, m := range s.Mounts {
		if m.ReadOnly != nil && !*m.ReadOnly {
			return "both would write to mount " + m.Path
		}
	}
	return ""
}

// KeepsRoot reports whether the root outlives machines, as a volume.
func (s *ContainerSpec) KeepsRoot() bool {
	return (s.System.StorePath != "" || s.System.Flake != "") && !s.Ephemeral
}

// flakeRef is REFERENCE#ATTRIBUTE. The reference says all: one that Nix would
// look up in somebody's registry, or in the directory that it is started in, does not.
var (
	flakeRef       = regexp.MustCompile(`^(/|path:/|git\+(https?|ssh|file)://|(tarball\+)?https?://|github:|gitlab:|sourcehut:)[!-"$-~]+#[A-Za-z_][A-Za-z0-9_.'"+-]*$`)
	flakeSecretRef = regexp.MustCompile(`^[^#]*://[^/@]*:[^/@]*@|[?&](access_)?token=`)
)

func checkFlake(flake string) error {
	switch {
	case flakeSecretRef.MatchString(flake):
		return errors.New("holds a password or token, which everybody could read in it; let the host fetch the repository, and name its path")
	case len(flake) > 1024:
		return errors.New("has more than 1024 characters")
	case !flakeRef.MatchString(flake):
		return errors.New("must be REFERENCE#ATTRIBUTE, with a whole reference: path:/srv/app#machine, git+https://example.org/app?ref=main#machine, github:owner/app#machine")
	}
	return nil
}

func (v *containerCheck) trust() {
	s := v.spec
	if s.UserNamespace != nil && !*s.UserNamespace {
		v.needsTrust(specPath.Child("userNamespace"), "running with the host's user ids")
	}
	seen := unique{}
	for i, name := range s.Capabilities {
		p := specPath.Child("capabilities").Index(i)
		v.unique(seen, name, p)
		switch {
		case slices.Contains(capabilities, name):
		case slices.Contains(capabilities, "CAP_"+strings.TrimPrefix(strings.ToUpper(name), "CAP_")):
			v.invalid(p, name, "did you mean %q?", "CAP_"+strings.TrimPrefix(strings.ToUpper(name), "CAP_"))
		default:
			v.invalid(p, name, "is not a capability of Linux such as CAP_NET_ADMIN")
		}
	}
	if len(s.Capabilities) > 0 {
		v.needsTrust(specPath.Child("capabilities"), "keeping capabilities")
	}
}

// capabilities of Linux 6.
var capabilities = strings.Fields(`
CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_AUDIT_WRITE CAP_BLOCK_SUSPEND CAP_BPF CAP_CHECKPOINT_RESTORE CAP_CHOWN
CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_IPC_LOCK CAP_IPC_OWNER CAP_KILL CAP_LEASE
CAP_LINUX_IMMUTABLE CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_MKNOD CAP_NET_ADMIN CAP_NET_BIND_SERVICE CAP_NET_BROADCAST
CAP_NET_RAW CAP_PERFMON CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYSLOG CAP_SYS_ADMIN CAP_SYS_BOOT
CAP_SYS_CHROOT CAP_SYS_MODULE CAP_SYS_NICE CAP_SYS_PACCT CAP_SYS_PTRACE CAP_SYS_RAWIO CAP_SYS_RESOURCE
CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_WAKE_ALARM`)
