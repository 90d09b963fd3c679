package machine

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"tekton.host/pkg/machine/nixos"
	"tekton.host/pkg/supervise"
)

// previousDir in a machine's directory holds the log of the machine that it took
// the place of, or that was to take its place and failed.
const previousDir = "previous"

// ordinalFile in it says which incarnation that was.
const ordinalFile = "ordinal"

// logFiles are what a log consists of.
var logFiles = []string{supervise.LogFile, supervise.LogFile + ".1", supervise.TimesFile, supervise.TimesFile + ".1"}

// OpenLog reads what a machine has written, or for a container its unit.
// Previous is what was written before: by an earlier start, or by another
// incarnation of its object, whichever was last.
func (d *Driver) OpenLog(ctx context.Context, machine string, o supervise.LogOptions) (io.ReadCloser, error) {
	dir := d.dir(machine)
	if nixos.Has(dir) {
		return d.containers.OpenLog(ctx, dir, o)
	}
	if !o.Previous {
		return supervise.OpenLog(ctx, dir, o)
	}
	other := filepath.Join(dir, previousDir)
	own, err := supervise.PreviousLogTime(dir)
	if err != nil {
		return nil, err
	}
	if last := supervise.LogTime(other); !last.IsZero() && !last.Before(own) {
		o.Previous = false
		return supervise.OpenLog(ctx, other, o)
	}
	return supervise.OpenLog(ctx, dir, o)
}

// handLogOver gives the log of a machine that goes to the other machines of its
// owner. They are links: nothing is copied, and it goes with the last of them.
func (d *Driver) handLogOver(machine, owner string) error {
	d.logs.Lock()
	defer d.logs.Unlock()
	own, _, err := d.record(machine)
	if err != nil {
		return err
	}
	others, err := d.machines()
	if err != nil {
		return err
	}
	var errs []error
	for _, other := range others {
		// One that cannot be read is no reason to keep this one.
		if rec, found, err := d.record(other); err == nil && found && other != machine && rec.Mark == d.mark(owner) {
			// Nor is one that goes meanwhile.
			if err := linkLog(d.dir(machine), d.dir(other), own.Instance.Ordinal); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// linkLog links the log of the machine with this ordinal. Of several that go,
// the one that was made last counts: an earlier one may end later.
func linkLog(from, to string, ordinal int) error {
	// A removal that was cut short has handed it over before.
	if _, err := os.Lstat(filepath.Join(from, supervise.LogFile)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	dir := filepath.Join(to, previousDir)
	if text, err := os.ReadFile(filepath.Join(dir, ordinalFile)); err == nil {
		if later, err := strconv.Atoi(string(text)); err == nil && later > ordinal {
			return nil
		}
	}
	err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, ordinalFile), []byte(strconv.Itoa(ordinal)), 0o600))
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range logFiles {
		if err := os.Link(filepath.Join(from, name), filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
