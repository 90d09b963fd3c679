package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/machine/nixos/conf"
	"tekton.host/pkg/spec"
)

// containerName is what nixos-container takes for one; it enters commands.
var containerName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// label makes a DNS label of a name.
func label(name string) string {
	return strings.Trim(notInNames.ReplaceAllString(strings.ToLower(name), "-"), "-")
}

// begin is a container with what all have in common.
func (r *reader) begin(name, file string) *Container {
	c := &Container{Name: name, At: "/" + file}
	c.Object = &v1alpha1.Container{
		TypeMeta: v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindContainer},
		Metadata: v1alpha1.ObjectMeta{Name: label(name)},
		// Two must not run on one root: it starts when its data is there.
		Spec: v1alpha1.ContainerSpec{Enabled: new(false), Reason: "imported; its data is still to be copied"},
	}
	if !containerName.MatchString(name) {
		c.leave("/"+file, "%q is no name of a container", name)
		c.Object = nil
		return c
	}
	if label(name) != name {
		c.take("/"+file, "it becomes %s: names are lower case letters, digits and dashes", label(name))
	}
	if at, taken := r.known(name); taken {
		c.leave("/"+file, "%s tracks a container of this name, too: there is one container, and it is taken over as that", at)
		c.Object = nil
		return c
	}
	system, at := r.system(name)
	if system == "" {
		c.leave(at, "no closure is found; build one and name it in spec.system.storePath")
		c.Object = nil
		return c
	}
	c.Object.Spec.System.StorePath = system
	c.take(at, "its system, %s", system)
	return c
}

// system is the closure that a container runs: its configuration's, which
// container@ prefers, or that of the profile that nixos-container keeps.
func (r *reader) system(name string) (storePath, at string) {
	for _, v := range r.conf(name) {
		if v.key == "SYSTEM_PATH" {
			return v.value, v.at
		}
	}
	link := path.Join(profilesDir, name, "system")
	at = "/" + link
	for range 8 {
		target, err := fs.ReadLink(r.Root, link)
		if err != nil {
			break
		}
		if strings.HasPrefix(target, "/nix/store/") {
			return target, at
		}
		if !path.IsAbs(target) {
			target = path.Join("/", path.Dir(link), target)
		}
		link = strings.TrimPrefix(path.Clean(target), "/")
	}
	return "", at
}

// end adds what the configuration says and the way of the data, and checks the result.
func (r *reader) end(c *Container) {
	if c.Object != nil {
		r.configuration(c)
		r.data(c)
		r.check(c)
	}
	if c.Object == nil {
		c.Taken, c.Steps = nil, nil
	}
	r.found = append(r.found, *c)
}

// check refuses what would be no valid spec.
func (r *reader) check(c *Container) {
	text, err := spec.Marshal(c.Object)
	if err != nil {
		c.leave(c.At, "%v", err)
		c.Object = nil
		return
	}
	_, problems := spec.Decode(c.At, text, spec.Options{})
	for _, p := range problems {
		c.leave(c.At, "%s", p.Message)
	}
	if len(problems) > 0 {
		c.Object = nil
	}
}

// setting is one line of a container's configuration.
type setting struct{ key, value, at string }

// conf reads a container's configuration, which has the form of a systemd EnvironmentFile.
func (r *reader) conf(name string) []setting {
	file := path.Join(confDir, name+".conf")
	data, err := fs.ReadFile(r.Root, file)
	if err != nil {
		return nil
	}
	var out []setting
	line := 0
	for text := range strings.Lines(string(data)) {
		line++
		key, value, ok := strings.Cut(strings.TrimSpace(text), "=")
		value = strings.Trim(value, `"'`)
		if ok && !strings.HasPrefix(key, "#") && value != "" {
			out = append(out, setting{key, value, fmt.Sprintf("/%s:%d", file, line)})
		}
	}
	return out
}

// configuration takes over what /etc/nixos-containers says.
func (r *reader) configuration(c *Container) {
	settings, private := r.conf(c.Name), false
	for _, v := range settings {
		switch v.key {
		case "SYSTEM_PATH":
		case "PRIVATE_NETWORK":
			private = v.value == "1"
		case "HOST_PORT":
			r.ports(c, v)
		case "AUTO_START":
			if v.value != "1" {
				c.take(v.at, "it was not started with the host; an enabled machine is")
			}
		case "EXTRA_NSPAWN_FLAGS":
			r.flags(c, v)
		case "HOST_ADDRESS", "LOCAL_ADDRESS", "HOST_ADDRESS6", "LOCAL_ADDRESS6", "LOCAL_MAC_ADDRESS":
			if !slices.ContainsFunc(c.Left, func(n Note) bool { return strings.HasPrefix(n.Text, "address ") }) {
				c.leave(v.at, "address %s: tekton gives the machine another one, IPv4", v.value)
			}
		case "FLAKE":
			c.leave(v.at, "its flake %s: what it was built to last is taken; build the next one yourself", v.value)
		case "PRIVATE_USERS":
			if v.value != "no" && v.value != "0" {
				c.leave(v.at, "%s=%s: the files of its root have shifted owners; start it once with PRIVATE_USERS=no before you copy them", v.key, v.value)
			}
		default:
			c.leave(v.at, "%s=%s has no counterpart", v.key, v.value)
		}
	}
	if len(settings) > 0 && !private {
		c.leave(settings[0].at, "it shares the host's network; the machine has one of its own: publish its ports with network.ports or routes")
	}
}

// ports: HOST_PORT is a list of PROTOCOL:HOSTPORT[:PORT].
func (r *reader) ports(c *Container, v setting) {
	for one := range strings.SplitSeq(v.value, ",") {
		parts := strings.Split(one, ":")
		if len(parts) == 2 {
			parts = append(parts, parts[1])
		}
		var host, port int
		var errs error
		if len(parts) == 3 {
			var err1, err2 error
			host, err1 = strconv.Atoi(parts[1])
			port, err2 = strconv.Atoi(parts[2])
			errs = errors.Join(err1, err2)
		}
		if len(parts) != 3 || errs != nil {
			c.leave(v.at, "port %q is not PROTOCOL:HOSTPORT:PORT", one)
			continue
		}
		c.Object.Spec.Network.Ports = append(c.Object.Spec.Network.Ports, v1alpha1.Port{HostIP: "0.0.0.0", HostPort: host, Port: port, Protocol: parts[0]})
		c.take(v.at, "port %s, on all addresses of the host", one)
	}
}

// flags: binds are mounts, which need trust.
func (r *reader) flags(c *Container, v setting) {
	for flag := range strings.FieldsSeq(v.value) {
		name, value, _ := strings.Cut(flag, "=")
		from, to, two := strings.Cut(value, ":")
		if !two {
			to = from
		}
		if (name != "--bind" && name != "--bind-ro") || !path.IsAbs(from) || strings.Contains(to, ":") {
			c.leave(v.at, "%s has no counterpart", flag)
			continue
		}
		c.Object.Spec.Trust = "trusted"
		c.Object.Spec.Mounts = append(c.Object.Spec.Mounts, v1alpha1.Mount{HostPath: from, Path: to, ReadOnly: new(name == "--bind-ro")})
		c.take(v.at, "%s, which needs trust: trusted", flag)
	}
}

// data says how the container's root gets into the volume that is the machine's.
func (r *reader) data(c *Container) {
	root := "/" + path.Join(rootsDir, c.Name)
	name := c.Object.Metadata.Name
	c.Steps = append(c.Steps, "tekton apply -f "+name+".yaml   # makes the volumes and databases; nothing starts")
	if r.exists(path.Join(runningDir, c.Name)) {
		c.take("/"+path.Join(runningDir, c.Name), "it runs now")
	}
	c.Steps = append(c.Steps, "nixos-container stop "+c.Name)
	if r.exists(path.Join(rootsDir, c.Name)) {
		c.take(root, "its files, by copy")
		c.Steps = append(c.Steps, fmt.Sprintf("cp -a --reflink=auto %s/. %s/volumes/container/%s/.root/", root, r.StateDir, name))
	}
}

// ours reports whether a container is tekton's already.
func (r *reader) ours(name string) bool {
	text, err := fs.ReadFile(r.Root, path.Join(confDir, name+".conf"))
	c, _ := conf.Parse(string(text)) // the mark is there also where the rest is damaged
	return err == nil && c.Mark != ""
}

// others are those that no script tracks.
func (r *reader) others() error {
	entries, err := r.list(confDir)
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".conf")
		if _, tracked := r.known(name); !ok || tracked || r.ours(name) {
			continue
		}
		file := path.Join(confDir, e.Name())
		c := r.begin(name, file)
		if e.Type()&fs.ModeSymlink != 0 && c.Object != nil {
			c.leave("/"+file, "the host's configuration declares it (containers.%s): remove it there when the machine serves, or both would run", name)
		}
		r.end(c)
	}
	return err
}
