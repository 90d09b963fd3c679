package machine

import (
	"path/filepath"

	"tekton.host/pkg/machine/launch"
	"tekton.host/pkg/supervise/cgroup"
)

// Usage is what a machine uses.
type Usage struct {
	cgroup.Usage
	// Disk is what its root layer and its volumes hold, as far as quotas count
	// that: nothing is walked through.
	Disk int64
}

// Usage reads what a running machine uses; running is false when it does not run.
func (d *Driver) Usage(machine string) (u Usage, running bool, err error) {
	s, found, err := d.Status(machine)
	if err != nil || !found || !s.Running || s.Leader == 0 {
		return u, false, err
	}
	host, err := cgroup.Find()
	if err != nil {
		return u, true, err
	}
	group, err := host.Of(s.Leader)
	if err != nil {
		return u, false, nil // ended meanwhile
	}
	if unit, ok := group.Upper(s.Unit); ok {
		group = unit
	}
	if u.Usage, err = group.Usage(); err != nil {
		if !group.Exists() {
			return u, false, nil
		}
		return u, true, err
	}
	u.Disk = d.diskUsed(machine)
	return u, true, nil
}

func (d *Driver) diskUsed(machine string) (sum int64) {
	f, err := d.files.get(d.dir(machine), func() (machineFiles, error) { return d.readFiles(machine) })
	if err != nil {
		return 0
	}
	dirs := []string{filepath.Join(d.dir(machine), launch.UpperDir)}
	for _, v := range f.record.Instance.Volumes {
		if dir, _, err := d.volumePath(v.Source); err == nil {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		if used, known := quotaUsed(dir); known {
			sum += used
		}
	}
	return sum
}
