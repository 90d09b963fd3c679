package onhost

import (
	"context"
	"os"
	"strings"
	"sync"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
	"tekton.host/pkg/doctor"
	"tekton.host/pkg/host"
	"tekton.host/pkg/spec"
)

// DefaultConfig is where the Host file of a packaged tekton is.
const DefaultConfig = "/etc/tekton/host.yaml"

// lookTimeout bounds all of a look: nothing in it takes longer unless it hangs.
const lookTimeout = 20 * time.Second

// Options of Look.
type Options struct {
	Config   string // Host file; "": DefaultConfig, where it is there
	Socket   string // of the daemon; "": that of the Host file
	Programs string // required: the directory of tektond and its peers
	Version  string // required: of this program
}

// Look gathers the facts.
func Look(ctx context.Context, o Options) doctor.Facts {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	_ = os.Setenv("PATH", searchPath(ctx)) // for all that is run below; it fails only for a name that is none
	f := doctor.Facts{Root: os.Geteuid() == 0}
	_, f.NixOS = host.CurrentSystem()
	f.Config, f.Host, f.Problems = configuration(o.Config)
	l := host.Layout{State: f.Host.StateDir, Run: f.Host.RunDir, Secrets: f.Host.SecretsDir}
	installation := ""
	if id, err := os.ReadFile(l.Installation()); err == nil {
		installation, f.Installed = strings.TrimSpace(string(id)), true
	}
	if o.Socket == "" {
		o.Socket = l.Socket()
	}
	// What may wait for somebody else goes at the same time.
	var wait sync.WaitGroup
	wait.Go(func() { f.Programs = programs(ctx, f.Host) })
	wait.Go(func() { f.Names = resolvers(ctx, f.Host) })
	wait.Go(func() { f.Daemon, f.Sources = daemon(ctx, client.New(o.Socket), f.Host) })
	wait.Wait()
	f.Daemon.Socket, f.Daemon.Client, f.Daemon.Expected = o.Socket, o.Version, installation
	if f.Daemon.Err != "" {
		f.Sources = sources(ctx, f.Host)
	}
	f.Ours = missingPrograms(o.Programs)
	f.Kernel, f.Settings = kernel(ctx, l, f.Root), settings()
	f.Network = network(ctx, f.Host, installation)
	f.Ports = ports(f.Host, l)
	f.Dirs, f.Refused = dirs(f.Host, l)
	f.Disks = disks(l)
	f.TrialLeft = trialLeft(f.Host)
	return f
}

// configuration reads the Host file as the daemon does; where it cannot be
// used, the defaults are looked at.
func configuration(path string) (string, v1alpha1.HostSpec, []string) {
	h := &v1alpha1.Host{}
	var problems []string
	if path == "" {
		if _, err := os.Stat(DefaultConfig); err == nil {
			path = DefaultConfig
		}
	}
	if path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			problems = append(problems, err.Error())
		} else if read, found := spec.DecodeHost(path, data); len(found) > 0 {
			for _, p := range found {
				problems = append(problems, p.Error())
			}
		} else {
			h = read
		}
	}
	h.Default()
	return path, h.Spec, problems
}

// reason is what an error says, "" for none.
func reason(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
