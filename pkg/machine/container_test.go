package machine_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
	"tekton.host/test/systemdhost"
)

// containers of NixOS can run from the first time on that they are asked for.
var containers sync.Once

// contain makes an instance a container of NixOS, whose init is the guest.
func (r *rig) contain(i *resource.Instance, n int, mode string) {
	r.t.Helper()
	containers.Do(func() { systemdhost.InstallContainers(r.t) })
	system := "/nix/store/" + r.naming.Instance + "-" + mode
	r.writeFile(system+"/init", readFile(r.t, filepath.Join(r.programs, "guest")), 0o755)
	r.writeFile(system+"/mode", mode, 0o644)
	r.writeFile(system+"/system", "x86_64-linux", 0o644)
	i.Container, i.System, i.Command, i.Mounts = r.naming.Instance+"-"+i.Hostname[len(i.Hostname)-1:], resource.System{StorePath: system}, nil, nil
	root := "container." + i.Hostname + ".root"
	r.mustPut(resource.Volume{ObjectKind: "Container", ObjectName: i.Hostname, Volume: "root"}, root)
	i.Volumes = append(i.Volumes, resource.Bind{Source: root, Target: "/"})
	r.t.Cleanup(func() {
		for _, v := range []resource.Value{resource.Unit{Name: i.Name}, *i} {
			if err := r.delete(v, i.Name); err != nil {
				r.t.Error(err)
			}
		}
		os.RemoveAll(system)
	})
}

// tasksMax is what the supervisor, or systemd, limits a machine's tasks to.
func (r *rig) tasksMax(i resource.Instance) int {
	r.t.Helper()
	if i.Container == "" {
		spec, _, err := r.supervisor.ReadSpec(filepath.Join(r.layout.Machines(), i.Name))
		if err != nil {
			r.t.Fatal(err)
		}
		return spec.Limits.TasksMax
	}
	out, err := exec.Command("systemctl", "show", "--value", "--property=TasksMax", "container@"+i.Container+".service").Output()
	if err != nil {
		r.t.Fatal(err)
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(out)))
	return n
}

// TestContainerStartCutShort: a daemon died when it had written that it starts a
// container and had not asked systemd for it. Nothing has ended: it is to be started.
func TestContainerStartCutShort(t *testing.T) {
	if !systemdhost.Inside() {
		return // it needs the unit
	}
	r := newRig(t)
	r.runtime = v1alpha1.RuntimeNixOSContainer
	i := r.instance(1, "serve")
	r.mustDelete(r.run(i), i.Name)
	path := filepath.Join(r.layout.Machines(), i.Name, "container.json")
	text := strings.Replace(readFile(t, path), "{", `{"started": true, "starting": true,`, 1)
	r.writeFile(path, text, 0o600)
	if _, _, present := observed[resource.Unit](r, i.Name); present {
		t.Errorf("it is seen as ended: %+v", r.unit(i.Name))
	}
	r.start(i)
}
