package nixos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	sdunit "github.com/coreos/go-systemd/v22/unit"
	godbus "github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

const (
	// lookEvery is how often a start is looked at until the first process is there.
	lookEvery = 5 * time.Millisecond
	// killGrace is what systemd gets to clean up after a kill.
	killGrace = 10 * time.Second

	noSuchUnit = "org.freedesktop.systemd1.NoSuchUnit"
)

// Start starts a container and waits until its first process is there: its
// network comes while it boots. Whether it is up is in the status.
func (m *Manager) Start(ctx context.Context, dir string, c Container) (supervise.Status, error) {
	conn, err := m.bus.Connect(ctx)
	if err != nil {
		return supervise.Status{}, err
	}
	if err := m.Prepare(dir, c); err != nil {
		return supervise.Status{}, err
	}
	if err := deliver(filepath.Join(m.run, c.Name), c); err != nil {
		return supervise.Status{}, fmt.Errorf("prepare the start of container %s: %w", c.Name, err)
	}
	id := unitName(c.Name)
	if err := m.refresh(ctx, conn, c); err != nil {
		return supervise.Status{}, err
	}
	if err := m.sweep(ctx, conn, c.Name, c.Root); err != nil {
		return supervise.Status{}, err
	}
	// A unit that failed too often refuses starts until it is told to forget that.
	if err := conn.ResetFailedUnitContext(ctx, id); err != nil && !isError(err, noSuchUnit) {
		return supervise.Status{}, fmt.Errorf("reset unit %s: %w", id, err)
	}
	s := state{
		Name: c.Name, Mark: c.Conf.Mark, Started: true, Starting: true, StopTimeout: c.StopTimeout, Generation: c.Generation,
		Fingerprint: c.Fingerprint, Inputs: c.Inputs, Failures: c.Failures,
	}
	if err := writeState(dir, s); err != nil {
		return supervise.Status{}, err
	}
	result := make(chan string, 1)
	if _, err := conn.StartUnitContext(ctx, id, "replace", result); err != nil {
		return supervise.Status{}, fmt.Errorf("start unit %s: %w", id, err)
	}
	s.Starting = false
	if err := writeState(dir, s); err != nil {
		return supervise.Status{}, err
	}
	return m.awaitFirst(ctx, s, dir, result)
}

// refresh has systemd read the unit again where its files have changed, and
// gives it what no file of NixOS says.
func (m *Manager) refresh(ctx context.Context, conn *dbus.Conn, c Container) error {
	id := unitName(c.Name)
	m.forget(id)
	u, err := m.look(ctx, c.Name)
	if err != nil {
		return err
	}
	if u.needsReload || u.load != "loaded" {
		if err := conn.ReloadContext(ctx); err != nil {
			return fmt.Errorf("have systemd read its units again: %w", err)
		}
		m.forget(id)
		if u, err = m.look(ctx, c.Name); err != nil {
			return err
		}
	}
	if u.load != "loaded" {
		return resource.Because("NoContainerUnit", noTemplate(u.load))
	}
	// systemd-nspawn makes /dev/net/tun, which the unit's policy denies.
	properties := append(supervise.LimitProperties(c.Limits), dbus.Property{
		Name: "DeviceAllow", Value: godbus.MakeVariant([]deviceAllow{{"/dev/net/tun", "rwm"}}),
	})
	if err := conn.SetUnitPropertiesContext(ctx, id, true, properties...); err != nil {
		return fmt.Errorf("set the limits of unit %s: %w", id, err)
	}
	return nil
}

type deviceAllow struct{ Path, Access string }

// awaitFirst waits for the container's first process, or for the start's end.
func (m *Manager) awaitFirst(ctx context.Context, s state, dir string, result <-chan string) (supervise.Status, error) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		ended := ""
		select {
		case ended = <-result:
		case <-look.C:
		case <-ctx.Done():
			return supervise.Status{}, fmt.Errorf("start unit %s: %w", unitName(s.Name), ctx.Err())
		}
		m.forget(unitName(s.Name))
		u, err := m.look(ctx, s.Name)
		if err != nil {
			return supervise.Status{}, err
		}
		status := u.status(s)
		switch {
		case ended != "" && ended != "done" && !status.Running:
			return status, fmt.Errorf("unit %s does not start: %s (%s); %s", unitName(s.Name), ended, u.result, lastOf(m.Tail(dir, 3)))
		case status.Leader != 0, ended != "":
			return status, nil
		}
	}
}

func lastOf(lines []string) string {
	if len(lines) == 0 {
		return "its journal is empty"
	}
	return "its last lines: " + strings.Join(lines, " | ")
}

// Update makes a running container into what is asked for: one that is up
// switches to another system; where more than that differs it starts anew.
func (m *Manager) Update(ctx context.Context, dir string, c Container) error {
	s, found, err := readState(dir)
	if err != nil {
		return err
	}
	u, err := m.look(ctx, c.Name)
	if err != nil {
		return err
	}
	if !found || s.Inputs != c.Inputs || !u.ready() || u.leader == 0 {
		if err := m.Stop(ctx, dir, c.StopTimeout); err != nil {
			return err
		}
		_, err := m.Start(ctx, dir, c)
		return err
	}
	if err := m.Prepare(dir, c); err != nil {
		return err
	}
	// Until it went well nobody knows what runs: a rollback switches, too.
	s.Fingerprint = ""
	if err := writeState(dir, s); err != nil {
		return err
	}
	if err := m.switchTo(ctx, u, c); err != nil {
		return err
	}
	s.Fingerprint, s.Failures = c.Fingerprint, 0
	return writeState(dir, s)
}

// Stop ends a container: after timeout (0: that of its start) all of it is
// killed. When it returns nil nothing of it runs.
func (m *Manager) Stop(ctx context.Context, dir string, timeout time.Duration) error {
	s, found, err := readState(dir)
	if err != nil || !found || !s.Started {
		return err
	}
	if timeout == 0 {
		timeout = s.StopTimeout
	}
	conn, err := m.bus.Connect(ctx)
	if err != nil {
		return err
	}
	id := unitName(s.Name)
	result := make(chan string, 1)
	if _, err := conn.StopUnitContext(ctx, id, "replace", result); err != nil && !isError(err, noSuchUnit) {
		return fmt.Errorf("stop unit %s: %w", id, err)
	} else if err == nil && !arrives(ctx, result, timeout) {
		if err := conn.KillUnitWithTarget(ctx, id, dbus.All, int32(unix.SIGKILL)); err != nil && !isError(err, noSuchUnit) {
			return fmt.Errorf("kill unit %s: %w", id, err)
		}
		if !arrives(ctx, result, killGrace) {
			return fmt.Errorf("unit %s does not end %s after it was killed", id, killGrace)
		}
	}
	m.forget(id)
	if err := conn.ResetFailedUnitContext(ctx, id); err != nil && !isError(err, noSuchUnit) {
		return fmt.Errorf("reset unit %s: %w", id, err)
	}
	if root, err := os.Readlink(m.paths.root(s.Name)); err == nil {
		if err := m.sweep(ctx, conn, s.Name, root); err != nil {
			return err
		}
	}
	s.Started = false
	if err := writeState(dir, s); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(m.run, s.Name))
}

// exportDir is where a systemd-nspawn that runs has a mount of its own on the host.
const exportDir = "/run/systemd/nspawn/unix-export"

// sweep takes away what a systemd-nspawn that was killed has left of a container
// that does not run: a mount, over which the next one refuses to start, and the
// lock beside its root. The mount is systemd's to take: ours may be other ones.
func (m *Manager) sweep(ctx context.Context, conn *dbus.Conn, name, root string) error {
	mount := sdunit.UnitNamePathEscape(filepath.Join(exportDir, name)) + ".mount"
	result := make(chan string, 1)
	if _, err := conn.StopUnitContext(ctx, mount, "replace", result); err == nil {
		arrives(ctx, result, killGrace)
	} else if !isError(err, noSuchUnit) {
		return fmt.Errorf("unmount what is left of container %s: %w", name, err)
	}
	lock := filepath.Join(filepath.Dir(root), ".#"+filepath.Base(root)+".lck")
	if err := os.Remove(lock); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func arrives(ctx context.Context, result <-chan string, timeout time.Duration) bool {
	select {
	case <-result:
		return true
	case <-time.After(timeout):
	case <-ctx.Done():
	}
	return false
}

// SetLimits changes the limits of a container.
func (m *Manager) SetLimits(ctx context.Context, dir string, l supervise.Limits) error {
	s, found, err := readState(dir)
	if err != nil {
		return err
	}
	if !found || !s.Started {
		return supervise.ErrNotRunning
	}
	conn, err := m.bus.Connect(ctx)
	if err != nil {
		return err
	}
	return conn.SetUnitPropertiesContext(ctx, unitName(s.Name), true, supervise.LimitProperties(l)...)
}

// controlDir is where systemd keeps what refresh told it.
const controlDir = "/run/systemd/system.control"

// Remove takes a container away that does not run.
func (m *Manager) Remove(ctx context.Context, dir string) error {
	s, found, err := readState(dir)
	if err != nil || !found {
		return err
	}
	if err := m.Stop(ctx, dir, 0); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(m.run, s.Name)); err != nil {
		return err
	}
	if err := m.paths.remove(s.Name, s.Mark); err != nil {
		return fmt.Errorf("remove container %s: %w", s.Name, err)
	}
	if err := revert(ctx, unitName(s.Name)); err != nil {
		return err
	}
	return os.Remove(filepath.Join(dir, stateFile)) // last: without it nobody knows the name
}

// revert has systemd forget what refresh told it of a unit, unless somebody
// else told it things, too: those would go with ours, which go at a reboot.
func revert(ctx context.Context, id string) error {
	if _, err := os.Lstat(filepath.Join(controlDir, id+".d")); err != nil {
		return nil
	}
	if _, err := os.Lstat(filepath.Join("/etc/systemd/system", id+".d")); err == nil {
		return nil
	}
	if out, err := exec.CommandContext(ctx, "systemctl", "revert", id).CombinedOutput(); err != nil {
		return fmt.Errorf("systemctl revert %s: %w: %s", id, err, strings.TrimSpace(string(out)))
	}
	return nil
}
