package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"

	"sigs.k8s.io/yaml"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/database"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/server/wire"
)

// Backup implements server.Backend.
func (d *Daemon) Backup(ctx context.Context) (v1alpha1.BackupInfo, error) {
	names, err := d.databases.Databases(ctx)
	if err != nil {
		return v1alpha1.BackupInfo{}, fmt.Errorf("list the databases: %w", err)
	}
	slices.Sort(names)
	file, err := d.hostFile()
	return v1alpha1.BackupInfo{Host: d.opts.Host, HostFile: file, Databases: names}, err
}

// hostFile is the operator's own, with its comments, where it says what we run
// with: flags may have said otherwise, and it may have changed since.
func (d *Daemon) hostFile() ([]byte, error) {
	if d.opts.Config != "" {
		text, err := os.ReadFile(d.opts.Config)
		if err == nil {
			h, err := Flags{Config: d.opts.Config}.Load()
			if err == nil && reflect.DeepEqual(h.Spec, d.opts.Host) {
				return text, nil
			}
		}
	}
	return yaml.Marshal(v1alpha1.Host{TypeMeta: v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindHost}, Spec: d.opts.Host})
}

// BackupDatabase implements server.Backend.
func (d *Daemon) BackupDatabase(ctx context.Context, name string) (v1alpha1.DumpProgress, error) {
	p, err := d.databases.Backup(ctx, name)
	switch reason := resource.Reason(err, ""); {
	case errors.Is(err, database.ErrNotFound):
		return v1alpha1.DumpProgress{}, &wire.Error{Code: wire.NotFound, Message: err.Error()}
	case reason == database.ReasonLocked || reason == database.ReasonDumpFailed:
		return v1alpha1.DumpProgress{}, &wire.Error{Code: wire.Conflict, Message: err.Error()}
	}
	return v1alpha1.DumpProgress{Done: p.Done, Written: p.Written, Size: p.Size}, err
}
