package ingress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

const (
	// stopTimeout until Caddy is killed: it has its grace period to end requests.
	stopTimeout = 10 * time.Second
	logMax      = 4 << 20
	// capNetBindService lets Caddy bind ports below 1024.
	capNetBindService = 10
	procDir           = "/proc"
	// pollPause between looks at a Caddy that is starting.
	pollPause = 10 * time.Millisecond
)

// account is the user that Caddy runs as.
func account(name string) (*syscall.Credential, error) {
	as, err := host.LookupUser(name)
	if err != nil {
		return nil, resource.Because(reasonUser, fmt.Errorf("user of Caddy: %w; create it or set Host.spec.ingress.user", err))
	}
	return as, nil
}

// probeVersion asks the program for its version: "v2.11.4 h1:…" or Debian's "2.6.2".
func probeVersion(ctx context.Context, program string) (string, error) {
	out, err := host.Run(ctx, host.Command{Argv: []string{program, "version"}})
	if err != nil {
		return "", fmt.Errorf("ask Caddy for its version: %w", err)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	return strings.TrimPrefix(first, "v"), nil
}

// atLeast compares the first two numbers of a version; one that is not numbers
// is a build of somebody's own and taken for new.
func atLeast(version string, major, minor int) bool {
	a, rest, _ := strings.Cut(version, ".")
	b, _, _ := strings.Cut(rest, ".")
	x, errX := strconv.Atoi(a)
	y, errY := strconv.Atoi(b)
	if errX != nil || errY != nil {
		return version != ""
	}
	return x > major || x == major && y >= minor
}

// launchError is a Caddy that could not be started though all it needs is there.
type launchError struct{ error }

func (e launchError) Unwrap() error { return e.error }

// start runs Caddy on the current generation g and returns once it serves.
func (d *Driver) start(ctx context.Context, g *generation) error {
	as, err := account(d.opts.User)
	if err != nil {
		return err
	}
	if err := checkPorts(procDir, 0, g.ports()...); err != nil {
		return err
	}
	program, err := exec.LookPath(d.opts.Caddy)
	if err != nil {
		return fmt.Errorf("find Caddy: %w", err)
	}
	if err := d.prepare(as); err != nil {
		return err
	}
	_, err = d.opts.Supervisor.Start(ctx, d.store.dir, supervise.Spec{
		Name: serviceName,
		Unit: d.opts.Naming.Unit(serviceName),
		Mark: resource.Mark{Installation: d.opts.Installation, Owner: resource.HostOwner}.String(),
		Argv: []string{program, "run", "--config", filepath.Join(d.store.link(), mainFile), "--adapter", "caddyfile"},
		Env: []string{
			"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + d.storage(),
			"XDG_DATA_HOME=" + d.storage(), "XDG_CONFIG_HOME=" + d.storage(),
		},
		Dir: d.storage(), UID: as.Uid, GID: as.Gid, AmbientCaps: []int{capNetBindService},
		Notify: true, LogMax: logMax, StopTimeout: stopTimeout,
	})
	if err == nil {
		err = d.awaitConfig(ctx)
	}
	if err != nil {
		return launchError{err}
	}
	return nil
}

// awaitConfig returns once Caddy runs a configuration. Newer versions say
// READY=1 also after they have refused theirs, and end then.
func (d *Driver) awaitConfig(ctx context.Context) error {
	for {
		config, err := d.admin.config(ctx)
		if err == nil && string(bytes.TrimSpace(config)) != "null" {
			return nil
		}
		status, _, errStatus := d.opts.Supervisor.Status(d.store.dir)
		if errStatus == nil && !status.Running {
			return fmt.Errorf("caddy ended with code %d: %s", status.ExitCode, strings.Join(supervise.TailLog(d.store.dir, 3), "; "))
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err, errStatus)
		case <-time.After(pollPause):
		}
	}
}

// startSafely runs Caddy on g and, where that fails, on g without its routes,
// so that something which broke while Caddy was down (a certificate's file)
// takes only what needs it: the following load finds out which route that is.
func (d *Driver) startSafely(ctx context.Context, g *generation) error {
	if !d.store.intact(g) {
		if err := d.save(g); err != nil {
			return err
		}
	}
	err := d.start(ctx, g)
	if _, launched := errors.AsType[launchError](err); !launched || len(g.Routes) == 0 || ctx.Err() != nil {
		return err
	}
	d.opts.Log.Error(err, "Caddy does not start with its routes, starting it without")
	if err := d.opts.Supervisor.Stop(ctx, d.store.dir, stopTimeout); err != nil {
		return err
	}
	bare := g.clone()
	bare.Routes = map[string]entry{}
	if err := d.save(bare); err != nil {
		return err
	}
	return d.start(ctx, bare)
}

// prepare makes the directories that are Caddy's own.
func (d *Driver) prepare(as *syscall.Credential) error {
	for _, dir := range []string{d.storage(), d.opts.Layout.RunService(serviceName)} {
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := os.Chown(dir, int(as.Uid), int(as.Gid)); err != nil {
			return err
		}
	}
	return d.mend()
}

// remove stops Caddy and leaves nothing of it, but what others put beside it.
func (d *Driver) remove(ctx context.Context) error {
	if err := d.opts.Supervisor.Stop(ctx, d.store.dir, stopTimeout); err != nil {
		return fmt.Errorf("stop Caddy: %w", err)
	}
	d.seen = sighting{}
	return errors.Join(d.store.removeAll(d.opts.Installation), os.RemoveAll(d.opts.Layout.RunService(serviceName)))
}
