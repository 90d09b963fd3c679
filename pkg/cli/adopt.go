package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/machine/nixos/conf"
)

// adoptPaths are where NixOS keeps containers.
type adoptPaths struct{ conf, roots, profiles string }

func (a *app) adoptCommand() *cobra.Command {
	paths := adoptPaths{conf.Dir, "/var/lib/nixos-containers", "/nix/var/nix/profiles/per-container"}
	cmd := &cobra.Command{
		Use:   "adopt NAME",
		Short: "Print the spec for a container of NixOS that is there",
		Long: "Reads a container's configuration file, changes nothing, and prints the spec that makes\n" +
			"the same of it with runtime nixos-container, with what has to be done by hand as comments.",
		Example: "  tekton adopt web > web.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if !containerName.MatchString(args[0]) {
				return usage("%q cannot name a container of NixOS", args[0])
			}
			text, err := os.ReadFile(filepath.Join(paths.conf, args[0]+".conf"))
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("there is no container %s in %s; see: nixos-container list", args[0], paths.conf)
			}
			if err != nil {
				return err
			}
			c, err := conf.Parse(string(text))
			if err != nil {
				return fmt.Errorf("%s: %w", filepath.Join(paths.conf, args[0]+".conf"), err)
			}
			if c.Mark != "" {
				return fmt.Errorf("container %s is tekton's already (%s)", args[0], c.Mark)
			}
			if c.SystemPath == "" {
				c.SystemPath, _ = filepath.EvalSymlinks(filepath.Join(paths.profiles, args[0], "system"))
			}
			spec, notes := adopted(args[0], c)
			return a.writeAdopted(paths, args[0], spec, notes)
		},
	}
	cmd.Flags().StringVar(&paths.conf, "conf-dir", paths.conf, "where the configuration files are")
	cmd.Flags().StringVar(&paths.profiles, "profiles", paths.profiles, "where the containers' profiles are")
	return cmd
}

var containerName = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

// adopted makes a spec of a container's configuration; notes are what of it a
// spec does not say.
func adopted(name string, c conf.Conf) (v1alpha1.Container, []string) {
	o := v1alpha1.Container{
		TypeMeta: v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindContainer},
		Metadata: v1alpha1.ObjectMeta{Name: strings.ToLower(strings.ReplaceAll(name, "_", "-"))},
		Spec: v1alpha1.ContainerSpec{
			Runtime: v1alpha1.RuntimeNixOSContainer, System: v1alpha1.System{StorePath: c.SystemPath},
			Trust: "trusted", // as NixOS had it: with the Nix daemon's socket
		},
	}
	if c.PrivateUsers == "" || c.PrivateUsers == "no" || c.PrivateUsers == "0" {
		o.Spec.UserNamespace = new(false)
	}
	var notes []string
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if c.Flake != "" {
		note("built from the flake %[1]s: for tekton to build it, set system.flake to %[1]s#nixosConfigurations.container.config.system.build.toplevel, in the place of storePath", c.Flake)
	}
	if !c.PrivateNetwork {
		note("it had the host's own network; it gets a link and an address of tekton's")
	}
	for key, value := range map[string]string{"HOST_BRIDGE": c.HostBridge, "NETWORK_NAMESPACE_PATH": c.NamespacePath,
		"INTERFACES": strings.Join(c.Interfaces, " "), "MACVLANS": strings.Join(c.MACVLANs, " "),
		"HOST_ADDRESS6": c.HostAddress6, "LOCAL_ADDRESS6": c.LocalAddress6, "LOCAL_MAC_ADDRESS": c.LocalMACAddress} {
		if value != "" {
			note("%s=%s is not taken over: tekton makes the link", key, value)
		}
	}
	if c.LocalAddress != "" {
		note("its address was %s; it gets one of the Host's subnet: use its name (NAME.tekton.internal) or a route", c.LocalAddress)
	}
	for _, p := range c.HostPort {
		if port, err := adoptedPort(p); err == nil {
			o.Spec.Network.Ports = append(o.Spec.Network.Ports, port)
		} else {
			note("HOST_PORT %s is not taken over: %v", p, err)
		}
	}
	for _, flag := range c.ExtraFlags {
		if !adoptFlag(&o.Spec, flag) {
			note("the flag %s is not taken over", flag)
		}
	}
	for _, key := range c.Unknown {
		note("%s is not known to tekton", key)
	}
	slices.Sort(notes)
	return o, notes
}

func adoptedPort(s string) (v1alpha1.Port, error) {
	protocol, rest, found := strings.Cut(s, ":")
	if !found {
		protocol, rest = "tcp", s
	}
	from, to, found := strings.Cut(rest, ":")
	if !found {
		to = from
	}
	hostPort, errHost := strconv.Atoi(from)
	port, errPort := strconv.Atoi(to)
	return v1alpha1.Port{HostPort: hostPort, Port: port, Protocol: protocol, HostIP: "0.0.0.0"}, errors.Join(errHost, errPort)
}

// adoptFlag takes over what a flag of systemd-nspawn says, if a spec can say it.
func adoptFlag(s *v1alpha1.ContainerSpec, flag string) bool {
	name, value, _ := strings.Cut(flag, "=")
	switch name {
	case "--bind", "--bind-ro":
		source, target, found := strings.Cut(value, ":")
		if !found {
			target = source
		}
		if strings.Contains(target, ":") {
			return false // options
		}
		s.Mounts = append(s.Mounts, v1alpha1.Mount{HostPath: source, Path: target, ReadOnly: new(name == "--bind-ro")})
	case "--capability":
		s.Capabilities = append(s.Capabilities, strings.Split(value, ",")...)
	default:
		return false
	}
	return true
}

func (a *app) writeAdopted(paths adoptPaths, name string, o v1alpha1.Container, notes []string) error {
	root := filepath.Join(paths.roots, name)
	fmt.Fprintf(a.out, "# Container %s of NixOS. To hand it over to tekton, without losing its files:\n", name)
	stop := fmt.Sprintf("systemctl stop container@%s", name)
	end := []string{stop, fmt.Sprintf("mv %s/%s.conf %s/%s.conf.before", paths.conf, name, paths.conf, name)}
	// What the host's configuration declares is a link into it, which each switch puts back.
	if info, err := os.Lstat(filepath.Join(paths.conf, name+".conf")); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		end = []string{fmt.Sprintf("remove containers.%s from the host's configuration, then nixos-rebuild switch, which takes %s.conf away", name, name), stop}
	}
	for _, step := range slices.Concat(end, []string{
		fmt.Sprintf("mv %s %s.before && mv %s/%s %s/%s.before", root, root, paths.profiles, name, paths.profiles, name),
		"tekton apply -f THIS-FILE with spec.enabled: false, which makes the root volume",
		fmt.Sprintf("cp -a %s.before/. STATEDIR/volumes/container/%s/.root/", root, o.Metadata.Name),
		"tekton apply -f THIS-FILE as it is; remove the .before when all is well",
	}) {
		fmt.Fprintf(a.out, "#   %s\n", step)
	}
	for _, n := range notes {
		fmt.Fprintf(a.out, "# Note: %s\n", terminal.Escape(n))
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return a.writeYAML(text)
}
