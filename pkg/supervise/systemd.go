package supervise

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise/cgroup"
)

const (
	// stopMargin is what systemd waits longer than the supervisor, which ends its process itself.
	stopMargin = 5 * time.Second

	noSuchUnit = "org.freedesktop.systemd1.NoSuchUnit"
	unitExists = "org.freedesktop.systemd1.UnitExists"
)

// systemd starts supervisors as transient units. The unit's description begins
// with the mark.
type systemd struct {
	program string
	slice   string
	bus     Bus
}

func (l *systemd) close() error {
	l.bus.Close()
	return nil
}

func (l *systemd) launch(ctx context.Context, dir string, s Spec) (<-chan error, error) {
	conn, err := l.bus.Connect(ctx)
	if err != nil {
		return nil, err
	}
	properties := append([]dbus.Property{
		dbus.PropDescription(s.Mark + " " + s.Name),
		dbus.PropSlice(l.slice),
		dbus.PropExecStart([]string{l.program, dir}, false),
		property("Type", "notify"),
		property("Delegate", true),
		property("KillMode", "mixed"),
		property("Restart", "no"),
		// An ended unit leaves nothing behind; how it ended is in our status.
		property("CollectMode", "inactive-or-failed"),
		// A process killed for memory is the machine's business, not its end.
		property("OOMPolicy", "continue"),
		property("TimeoutStopUSec", microseconds(s.StopTimeout+stopMargin)),
		// What the supervisor has to say goes where the other form has it, too, and
		// into the error of the start.
		property("StandardErrorFileToAppend", filepath.Join(dir, LogFile)),
		property("UMask", uint32(0o077)),
	}, LimitProperties(s.Limits)...)
	result := make(chan string, 1)
	for range startTries {
		var slices []dbus.PropertyCollection
		if slices, err = l.newSlices(ctx, conn); err != nil {
			return nil, err
		}
		_, err = conn.StartTransientUnitAux(ctx, s.Unit, "replace", properties, slices, result)
		if len(slices) == 0 || !isError(err, unitExists) {
			break
		}
		// Another start has made a slice meanwhile.
	}
	if isError(err, unitExists) {
		return nil, resource.Taken("Conflict", fmt.Errorf("systemd has a unit %s that is not ours (a file?); remove it or choose another Host.spec.instance: %w", s.Unit, err))
	}
	if err != nil {
		return nil, err
	}
	failed := make(chan error, 1)
	go func() {
		if r := <-result; r != "done" {
			failed <- fmt.Errorf("systemd's start job of its supervisor: %s; see journalctl -u %s", r, s.Unit)
		}
	}()
	return failed, nil
}

// startTries bounds how often a start that lost a race for a slice is repeated.
const startTries = 5

// newSlices describes the slice and those it lies in, as far as they have to be
// made: ones that go away with the last unit in them. A slice that systemd makes
// by itself would stay.
func (l *systemd) newSlices(ctx context.Context, conn *dbus.Conn) ([]dbus.PropertyCollection, error) {
	var missing []dbus.PropertyCollection
	for _, name := range sliceChain(l.slice) {
		loaded, err := conn.ListUnitsByPatternsContext(ctx, nil, []string{EscapeGlob(name)})
		if err != nil {
			return nil, fmt.Errorf("list unit %s: %w", name, err)
		}
		if len(loaded) == 0 {
			missing = append(missing, dbus.PropertyCollection{Name: name, Properties: []dbus.Property{property("StopWhenUnneeded", true)}})
		}
	}
	return missing, nil
}

// sliceChain names a slice after those it lies in: a.slice, a-b.slice.
func sliceChain(slice string) []string {
	var chain []string
	prefix := ""
	for part := range strings.SplitSeq(strings.TrimSuffix(slice, ".slice"), "-") {
		prefix += part
		chain = append(chain, prefix+".slice")
		prefix += "-"
	}
	return chain
}

// clear is called when no supervisor works any more, or when it has to be
// killed, so there is nothing to stop gently.
func (l *systemd) clear(ctx context.Context, unit, mark string) error {
	conn, err := l.bus.Connect(ctx)
	if err != nil {
		return err
	}
	units, err := conn.ListUnitsByPatternsContext(ctx, nil, []string{EscapeGlob(unit)})
	if err != nil {
		return fmt.Errorf("list unit %s: %w", unit, err)
	}
	if len(units) == 0 {
		return nil
	}
	if err := conflict("systemd unit "+unit, units[0].Description, mark); err != nil {
		return err
	}
	err = conn.KillUnitWithTarget(ctx, unit, dbus.All, int32(unix.SIGKILL))
	if err != nil && !isError(err, noSuchUnit) && !noProcesses(err) {
		return fmt.Errorf("kill unit %s: %w", unit, err)
	}
	result := make(chan string, 1)
	_, err = conn.StopUnitContext(ctx, unit, "replace", result)
	if isError(err, noSuchUnit) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop unit %s: %w", unit, err)
	}
	select {
	case <-result:
	case <-ctx.Done():
		return fmt.Errorf("stop unit %s: %w", unit, ctx.Err())
	}
	if err := conn.ResetFailedUnitContext(ctx, unit); err != nil && !isError(err, noSuchUnit) {
		return fmt.Errorf("reset unit %s: %w", unit, err)
	}
	return nil
}

func (l *systemd) setLimits(ctx context.Context, unit string, limits Limits) error {
	conn, err := l.bus.Connect(ctx)
	if err != nil {
		return err
	}
	return conn.SetUnitPropertiesContext(ctx, unit, true, LimitProperties(limits)...)
}

func (l *systemd) units(ctx context.Context) ([]Unit, error) {
	conn, err := l.bus.Connect(ctx)
	if err != nil {
		return nil, err
	}
	list, err := conn.ListUnitsByPatternsContext(ctx, nil, []string{"*.service"})
	if err != nil {
		return nil, fmt.Errorf("list units: %w", err)
	}
	host, err := cgroup.Find()
	if err != nil {
		return nil, err
	}
	var out []Unit
	for _, u := range list {
		mark, ok := resource.ParseMark(u.Description)
		if !ok {
			continue
		}
		pids, err := host.Group(filepath.Join(l.slicePath(), u.Name)).Procs()
		if err != nil {
			return nil, err
		}
		out = append(out, Unit{Name: u.Name, Mark: mark.String(), Processes: len(pids)})
	}
	return out, nil
}

// slicePath is the slice's cgroup: a-b.slice lies in a.slice.
func (l *systemd) slicePath() string { return filepath.Join(sliceChain(l.slice)...) }

// LimitProperties sets every limit, also those that are not asked for: systemd
// has defaults of its own.
func LimitProperties(l Limits) []dbus.Property {
	orInfinity := func(v uint64) uint64 {
		if v == 0 {
			return math.MaxUint64
		}
		return v
	}
	const percent = uint64(time.Second/time.Microsecond) / 100
	return []dbus.Property{
		property("MemoryMax", orInfinity(uint64(l.MemoryMax))),
		property("MemoryHigh", orInfinity(uint64(l.MemoryHigh))),
		property("CPUQuotaPerSecUSec", orInfinity(uint64(l.CPUQuota)*percent)),
		property("CPUWeight", orInfinity(uint64(l.CPUWeight))),
		property("IOWeight", orInfinity(uint64(l.IOWeight))),
		property("TasksMax", orInfinity(uint64(l.TasksMax))),
	}
}

func property(name string, value any) dbus.Property {
	return dbus.Property{Name: name, Value: godbus.MakeVariant(value)}
}

func microseconds(d time.Duration) uint64 { return uint64(d / time.Microsecond) }

func isError(err error, name string) bool {
	e, ok := errors.AsType[godbus.Error](err)
	return ok && e.Name == name
}

// noProcesses reports that a kill found nothing to kill, which systemd calls
// an error under one of two names.
func noProcesses(err error) bool {
	return isError(err, "org.freedesktop.systemd1.NoSuchProcess") || isError(err, "org.freedesktop.DBus.Error.UnixProcessIdUnknown") ||
		isError(err, "System.Error.ESRCH")
}

// EscapeGlob makes a pattern that matches the name only.
func EscapeGlob(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}
