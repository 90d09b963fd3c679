package machine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"tekton.host/pkg/machine/handover"
	"tekton.host/pkg/machine/launch"
	"tekton.host/pkg/machine/nixos"
	"tekton.host/pkg/machine/nixos/conf"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

// runner is what a machine that runs is asked: the supervisor, or the manager
// of NixOS's containers.
type runner interface {
	Status(dir string) (supervise.Status, bool, error)
	Stop(ctx context.Context, dir string, timeout time.Duration) error
	SetLimits(ctx context.Context, dir string, l supervise.Limits) error
	Tail(dir string, lines int) []string
}

// supervisor is the runner of machines of our own.
type supervisor struct{ *supervise.Manager }

func (supervisor) Tail(dir string, lines int) []string { return supervise.TailLog(dir, lines) }

// runnerOf is the runner of a machine's directory.
func (d *Driver) runnerOf(machine string) runner {
	if nixos.Has(d.dir(machine)) {
		return d.containers
	}
	return supervisor{d.opts.Supervisor}
}

// Status is that of a machine's process, whatever runs it.
func (d *Driver) Status(machine string) (supervise.Status, bool, error) {
	return d.runnerOf(machine).Status(d.dir(machine))
}

// putContainer prepares the container that a machine is to be, if it is to be one.
func (d *Driver) putContainer(ctx context.Context, r resource.Resource, rec recordFile, found bool) error {
	if rec.Instance.Container == "" {
		return nil
	}
	if rec.Instance.System.StorePath == "" || len(rec.Instance.Command) > 0 {
		return resource.Terminal("InvalidMachine", fmt.Errorf("machine %s: a NixOS container boots a storePath", r.Name))
	}
	if _, err := os.Stat(rec.Instance.System.StorePath + "/init"); err != nil {
		return resource.Because(launch.Reason(launch.ExitSystem), fmt.Errorf("machine %s: %w: the store path is no NixOS system, or the garbage collector took it", r.Name, err))
	}
	c, err := d.container(rec, nil)
	if err != nil {
		return err
	}
	err = d.containers.Prepare(d.dir(r.Name), c)
	if err != nil && !found {
		return errors.Join(err, d.containers.Remove(ctx, d.dir(r.Name))) // no record would say whose it is
	}
	return err
}

// putContainerUnit starts a container, or updates one that runs.
func (d *Driver) putContainerUnit(ctx context.Context, name string, rec recordFile, v resource.Unit, have *observedUnit) error {
	document, err := launch.Document(rec.Instance)
	if err != nil {
		return err
	}
	c, err := d.container(rec, &document)
	if err != nil {
		return err
	}
	c.Generation, c.Fingerprint = v.Generation, v.Fingerprint
	if have != nil {
		c.Failures = have.value.Failures
	}
	if have != nil && have.value.Running {
		return d.containers.Update(ctx, d.dir(name), c)
	}
	if err := d.prepareRoot(ctx, name, rec); err != nil {
		return err
	}
	_, err = d.containers.Start(ctx, d.dir(name), c)
	if err != nil && resource.Reason(err, "") == "" {
		return resource.Because("StartFailed", err)
	}
	return err
}

// Names of a container's files.
const (
	environmentName = "environment"
	credentialName  = "credential-"
)

// container renders an instance as a container of NixOS. With document, what a
// start reads is in it.
func (d *Driver) container(rec recordFile, document *handover.Document) (nixos.Container, error) {
	i := rec.Instance
	root := slices.IndexFunc(i.Volumes, func(b resource.Bind) bool { return b.Target == "/" })
	if root < 0 {
		return nixos.Container{}, resource.Terminal("InvalidMachine", fmt.Errorf("machine %s has no root volume", i.Name))
	}
	rootDir, _, err := d.volumePath(i.Volumes[root].Source)
	if err != nil {
		return nixos.Container{}, err
	}
	flags, err := d.containerFlags(i, rootDir)
	if err != nil {
		return nixos.Container{}, resource.Terminal("InvalidMachine", fmt.Errorf("machine %s: %w", i.Name, err))
	}
	c := nixos.Container{
		Name: i.Container, System: i.System.StorePath, Root: rootDir, Guard: !i.HostNix, Limits: supervise.LimitsOf(i.Limits), Owner: int(i.UIDBase),
		StopTimeout: time.Duration(i.StopTimeout),
		Conf: conf.Conf{
			Mark: rec.Mark, Label: i.Name, PrivateNetwork: true, ExtraFlags: flags,
			ShownHostAddress: d.opts.Naming.HostAddr(i.Slot).String(), ShownAddress: i.Addr.String(),
		},
	}
	if i.UIDBase != 0 {
		c.Conf.PrivateUsers = strconv.FormatUint(uint64(i.UIDBase), 10)
	}
	if !i.HostNix {
		c.Conf.SystemPath = i.System.StorePath // its profile is not in it
	}
	if i.DNS.IsValid() {
		c.Resolver = i.DNS.String()
	}
	if document != nil {
		c.Files = containerFiles(i, *document)
	}
	c.Inputs = containerInputs(i)
	return c, nil
}

// containerInputs is a digest of what a container reads only at its start.
func containerInputs(i resource.Instance) string {
	i.System, i.Fingerprint, i.Limits, i.StopTimeout = resource.System{}, "", resource.Limits{}, 0
	raw, _ := json.Marshal(i)
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// stockBinds are what the unit container@ shows every container of the host's
// Nix: its daemon builds for whoever asks, its database names all there is, and
// what is in the two others keeps store paths alive or is booted next.
var stockBinds = []string{"/nix/var/nix/daemon-socket", "/nix/var/nix/db", "/nix/var/nix/gcroots", "/nix/var/nix/profiles"}

// containerFlags are what systemd-nspawn gets beside what the unit says.
func (d *Driver) containerFlags(i resource.Instance, rootDir string) ([]string, error) {
	flags := []string{"--settings=no", "--resolv-conf=off", "--timezone=off", "--hostname=" + i.Hostname}
	if i.UIDBase != 0 {
		flags = append(flags, "--private-users-ownership=map")
	}
	if !i.HostNix {
		flags = append(flags, "--link-journal=no")
		flags = append(flags, launch.CapabilityFlags(i.Capability)...)
		for _, path := range stockBinds {
			flags = append(flags, "--inaccessible="+path)
		}
	} else if len(i.Capability) > 0 {
		flags = append(flags, "--capability="+strings.Join(i.Capability, ","))
	}
	bind := func(source, target string, readOnly bool, options string) error {
		if strings.Contains(source+target, ":") {
			return fmt.Errorf("%s at %s: a colon cannot be told to the unit container@", source, target)
		}
		flag := "--bind="
		if readOnly {
			flag = "--bind-ro="
		}
		flags = append(flags, flag+source+":"+target+options)
		return errors.Join(conf.Word(source), conf.Word(target))
	}
	mapped := ""
	if i.UIDBase != 0 {
		mapped = ":idmap"
	}
	errs := []error{bind(d.opts.Init, handover.InitPath, true, "")}
	if !i.HostNix {
		for _, path := range nixos.Guarded {
			errs = append(errs, bind(rootDir+path, path, false, "")) // mapped with the root
		}
	}
	if len(i.HostPaths) > 0 && len(i.Mounts) > 0 {
		errs = append(errs, errors.New("its source is limited to hostPaths: the unit container@ would follow links out of them; use runtime nspawn for mounts"))
	}
	for _, v := range i.Volumes {
		if v.Target == "/" {
			continue
		}
		dir, _, err := d.volumePath(v.Source)
		errs = append(errs, err, bind(dir, v.Target, v.ReadOnly, mapped))
	}
	for _, m := range i.Mounts {
		errs = append(errs, bind(m.Source, m.Target, m.ReadOnly, mapped))
	}
	if hasEnvironment(i) {
		errs = append(errs, bind(d.containers.FilePath(i.Container, environmentName), handover.EnvironmentFile, true, ""))
	}
	for _, s := range i.Secrets {
		if s.Path != "" {
			errs = append(errs, bind(d.containers.FilePath(i.Container, credentialName+s.Name), s.Path, true, ""))
		}
	}
	return flags, errors.Join(errs...)
}

func hasEnvironment(i resource.Instance) bool {
	return len(i.Environment) > 0 || slices.ContainsFunc(i.Secrets, func(s resource.Secret) bool { return s.Env != "" })
}

// containerFiles are the files that containerFlags binds.
func containerFiles(i resource.Instance, document handover.Document) []nixos.File {
	var files []nixos.File
	if hasEnvironment(i) {
		text := handover.FormatEnvironment(append(slices.Clone(document.Environment), document.SecretEnvironment...))
		files = append(files, nixos.File{Name: environmentName, Data: []byte(text)})
	}
	byPath := map[string][]byte{}
	for _, f := range document.Files {
		byPath[f.Path] = f.Data
	}
	for _, s := range i.Secrets {
		if s.Path != "" {
			files = append(files, nixos.File{Name: credentialName + s.Name, Data: byPath[s.Path]})
		}
	}
	return files
}

// runDir holds the files of containers, on tmpfs.
func (d *Driver) runDir() string { return filepath.Join(d.opts.Layout.Run, "containers") }
