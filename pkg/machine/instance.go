package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tekton.host/pkg/host"
	"tekton.host/pkg/machine/launch"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

// recordFile is instance.json as the driver reads it: the launcher's record and
// what was found out when it was prepared.
type recordFile struct {
	launch.Record
	// DiskUnenforced says why the limit of the root layer is not enforced.
	DiskUnenforced string `json:"diskUnenforced,omitempty"`
}

// machineFiles are those of a machine that only this driver writes; without
// a mark: not there.
type machineFiles struct {
	record               recordFile
	answer               answerFile
	recordErr, answerErr error
}

func (d *Driver) readFiles(machine string) (f machineFiles, err error) {
	f.record, _, f.recordErr = d.record(machine)
	f.answer, _, f.answerErr = readJSON[answerFile](d.answerPath(machine))
	if _, damaged := errors.AsType[*json.SyntaxError](f.answerErr); damaged {
		f.answerErr = nil // by a power cut, which has ended the start that had answered
	}
	return f, errors.Join(f.recordErr, f.answerErr)
}

func (d *Driver) recordPath(machine string) string {
	return filepath.Join(d.dir(machine), launch.RecordFile)
}

// record reads a machine's record; found is false when there is none.
func (d *Driver) record(machine string) (recordFile, bool, error) {
	return readJSON[recordFile](d.recordPath(machine))
}

func (d *Driver) writeRecord(machine string, r recordFile) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return host.WriteFile(d.recordPath(machine), append(b, '\n'), 0o600)
}

// ownRecord reads the record of a step's machine and checks that it is the
// owner's.
func (d *Driver) ownRecord(machine, owner string) (r recordFile, found bool, err error) {
	r, found, err = d.record(machine)
	if err != nil || !found {
		return r, found, err
	}
	if r.Mark != d.mark(owner) {
		return r, true, conflict("machine "+machine+" in "+d.dir(machine), r.Mark)
	}
	return r, true, nil
}

func (d *Driver) putInstance(ctx context.Context, r resource.Resource, v resource.Instance) (err error) {
	if err := launch.Validate(v); err != nil {
		return resource.Terminal("InvalidMachine", fmt.Errorf("machine %s: %w", r.Name, err))
	}
	old, found, err := d.ownRecord(r.Name, r.Owner)
	if err != nil {
		return err
	}
	status, _, err := d.Status(r.Name)
	if err != nil {
		return err
	}
	if found && v.Container == "" && old.Instance.System != v.System {
		if status.Running {
			return resource.Because("StillRunning", fmt.Errorf("machine %s runs another system; it has to stop before its root is replaced", r.Name))
		}
		// The writable layer belongs to one image and goes with it.
		if err := resetRoot(ctx, d.dir(r.Name)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(d.dir(r.Name), 0o700); err != nil {
		return err
	}
	if !found {
		defer func() {
			if _, recorded, errRecord := d.record(r.Name); err != nil && !recorded && errRecord == nil {
				os.Remove(filepath.Join(d.dir(r.Name), launch.UpperDir))
				os.RemoveAll(filepath.Join(d.dir(r.Name), launch.KeysDir))
				os.Remove(d.dir(r.Name)) // or nobody would know whose it is
			}
		}()
	}
	next := recordFile{Record: launch.Record{Version: launch.RecordVersion, Mark: d.mark(r.Owner), Instance: v}}
	next.Instance.LimitsUnenforced = ""
	if next.DiskUnenforced, err = d.limitDisk(v); err != nil {
		return err
	}
	if err := d.putContainer(ctx, r, next, found); err != nil {
		return err
	}
	if err := d.writeKeys(r.Name, v.Login); err != nil {
		return err
	}
	if err := d.writeRecord(r.Name, next); err != nil {
		return err
	}
	if !found {
		if err := host.SyncDir(d.opts.Layout.Machines()); err != nil {
			return err
		}
	}
	if !status.Running || supervise.LimitsOf(old.Instance.Limits) == supervise.LimitsOf(v.Limits) {
		return nil
	}
	err = d.runnerOf(r.Name).SetLimits(ctx, d.dir(r.Name), supervise.LimitsOf(v.Limits))
	if errors.Is(err, supervise.ErrNotRunning) {
		return nil // ended meanwhile: the next start has them
	}
	return err
}

// writeKeys stores who may log in. The machine sees the directory as it is now.
func (d *Driver) writeKeys(machine string, l *resource.Login) error {
	if l == nil {
		return nil
	}
	dir := filepath.Join(d.dir(machine), launch.KeysDir)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	text := strings.Join(append(slices.Clone(l.Keys), ""), "\n")
	return host.WriteFile(filepath.Join(dir, l.User), []byte(text), 0o644)
}

// limitDisk limits the writable root: the layer, or a storePath's root volume
// once that is there.
func (d *Driver) limitDisk(i resource.Instance) (unenforced string, err error) {
	root := filepath.Join(d.dir(i.Name), launch.UpperDir)
	volume := slices.IndexFunc(i.Volumes, func(b resource.Bind) bool { return b.Target == "/" })
	if volume >= 0 {
		if root, _, err = d.volumePath(i.Volumes[volume].Source); err != nil {
			return "", err
		}
	} else if i.Limits.DiskMax > 0 {
		if err := os.Mkdir(root, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	why, err := setQuota(root, i.Limits.DiskMax)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // limited when the machine starts
	}
	if why != "" {
		why = "diskMax: " + why
	}
	return why, err
}

// deleteInstance removes the directory. The record goes last, so that what a
// cut-short removal left is still known to be ours.
func (d *Driver) deleteInstance(ctx context.Context, r resource.Resource) error {
	if _, found, err := d.ownRecord(r.Name, r.Owner); err != nil || !found {
		return err
	}
	dir := d.dir(r.Name)
	status, found, err := d.Status(r.Name)
	if err != nil {
		return err
	}
	if found && status.Running {
		return resource.Because("StillRunning", fmt.Errorf("machine %s still runs; its directory goes after it", r.Name))
	}
	// A machine that ended by itself leaves its status and cgroup to us.
	if err := d.opts.Supervisor.Stop(ctx, dir, 0); err != nil {
		return err
	}
	if err := d.containers.Remove(ctx, dir); err != nil {
		return err
	}
	if err := d.handLogOver(r.Name, r.Owner); err != nil {
		d.opts.Log.Error(err, "the log is not kept", "machine", r.Name)
	}
	if err := withoutMounts(dir, func() error { return emptyDir(ctx, dir, launch.RecordFile) }); err != nil {
		return fmt.Errorf("remove machine %s: %w", r.Name, err)
	}
	d.tails.forget(dir)
	return removeTree(ctx, dir)
}

// resetRoot gives a machine a clean root at its next start.
func resetRoot(ctx context.Context, dir string) error {
	for _, name := range []string{launch.UpperDir, launch.WorkDir} {
		if err := withoutMounts(dir, func() error { return removeTree(ctx, filepath.Join(dir, name)) }); err != nil {
			return fmt.Errorf("reset the root layer: %w", err)
		}
	}
	return nil
}

// observeMachines reads all machines. Of one that cannot be read nothing is
// known: an absent machine would be made again.
func (d *Driver) observeMachines(ctx context.Context, machines []string) (instances, units, answers resource.Domain) {
	instances, units, answers = resource.Known(), resource.Known(), resource.Known()
	probes := map[string]probed{}
	for _, name := range machines {
		if err := ctx.Err(); err != nil {
			return resource.Unknown(err), resource.Unknown(err), resource.Unknown(err)
		}
		unit, err := d.observeUnit(name)
		if err != nil {
			units.Unread(name, err)
		}
		if unit != nil {
			units.Items[unit.ID] = unit.Resource
		}
		// The error of a directory that cannot be looked at is that of its files.
		files, err := d.files.get(d.dir(name), func() (machineFiles, error) { return d.readFiles(name) })
		if err != nil && files.recordErr == nil && files.answerErr == nil {
			files.recordErr, files.answerErr = err, err
		}
		if files.recordErr != nil {
			instances.Unread(name, files.recordErr)
		} else if owner, ours := d.ours(files.record.Mark); ours {
			v := files.record.Instance
			v.LimitsUnenforced = joinNonEmpty(files.record.DiskUnenforced, unit.unenforced())
			r := resource.New(owner, name, name, v)
			instances.Items[r.ID] = r
		}
		if files.answerErr != nil {
			answers.Unread(name, files.answerErr)
		} else if owner, ours := d.ours(files.answer.Mark); ours {
			answer := files.answer.Answer
			if unit.running(answer.Boot) && answer.Probe.Interval > 0 {
				probes[name] = probed{name: name, answer: answer}
			}
			answer.Failing = d.prober.failing(name, answer)
			r := resource.New(owner, name, name, answer)
			answers.Items[r.ID] = r
		}
	}
	d.prober.want(probes)
	d.files.bound(len(machines))
	return instances, units, answers
}

func joinNonEmpty(parts ...string) string {
	var out []string
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return strings.Join(out, "; ")
}
