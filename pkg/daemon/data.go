package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/database"
	"tekton.host/pkg/ledger"
	"tekton.host/pkg/machine"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/secret"
	"tekton.host/pkg/server/wire"
)

// SetSecret implements server.Backend.
func (d *Daemon) SetSecret(_ context.Context, name string, value []byte) error {
	if err := secret.CheckName(name); err != nil {
		return &wire.Error{Code: wire.Invalid, Message: err.Error()}
	}
	return d.secrets.Set(name, bytes.NewReader(value))
}

// DeleteSecret implements server.Backend.
func (d *Daemon) DeleteSecret(_ context.Context, name string) error {
	if err := secret.CheckName(name); err != nil {
		return &wire.Error{Code: wire.Invalid, Message: err.Error()}
	}
	return d.secrets.Delete(name)
}

// ListSecrets implements server.Backend.
func (d *Daemon) ListSecrets(context.Context) ([]v1alpha1.SecretInfo, error) {
	infos, err := d.secrets.List()
	if err != nil {
		return nil, err
	}
	used := d.secretUsers()
	out := make([]v1alpha1.SecretInfo, 0, len(infos))
	for _, i := range infos {
		out = append(out, v1alpha1.SecretInfo{Name: i.Name, UpdatedAt: i.Changed, UsedBy: used[i.Name]})
	}
	return out, nil
}

func (d *Daemon) secretUsers() map[string][]v1alpha1.Ref {
	used := map[string][]v1alpha1.Ref{}
	for _, o := range d.engine.View().Result.Compiled.Objects {
		for _, name := range compile.SecretsOf(o.Spec) {
			used[name] = append(used[name], v1alpha1.Ref{Kind: o.Record.Kind, Name: o.Record.Name})
		}
	}
	return used
}

const (
	volumeID   = "volume:"
	databaseID = "database:"
)

// ListData implements server.Backend.
func (d *Daemon) ListData(ctx context.Context) ([]v1alpha1.DataItem, error) {
	volumes, err := d.machines.ListData(ctx)
	if err != nil {
		return nil, err
	}
	keep := 72 * time.Hour
	if t := d.opts.Host.TrashFor; t != nil {
		keep = t.Duration
	}
	var out []v1alpha1.DataItem
	for _, v := range volumes {
		i := v1alpha1.DataItem{
			ID: volumeID + v.ID, Owner: v1alpha1.Ref{Kind: v.Volume.ObjectKind, Name: v.Volume.ObjectName},
			What: v1alpha1.DataVolume, Name: v.Volume.Volume, State: v1alpha1.DataState(v.State),
		}
		if v.Err != nil {
			i.Message = v.Err.Error()
		}
		if v.State == machine.DataInTrash {
			i.DeletedAt, i.ExpiresAt = v.Since, v.Since.Add(keep)
		}
		out = append(out, i)
	}
	out = append(out, d.databasesInUse()...)
	left, err := d.databases.ListData(ctx)
	for _, x := range left {
		parts := append(strings.SplitN(x.Label, "/", 3), "", "", "")
		i := v1alpha1.DataItem{
			ID: databaseID + x.ID, Owner: v1alpha1.Ref{Kind: parts[0], Name: parts[1]},
			What: v1alpha1.DataDatabase, Name: parts[2], State: v1alpha1.DataLeft, Size: x.Size,
		}
		if x.State == database.StateTrash {
			i.State, i.DeletedAt, i.ExpiresAt = v1alpha1.DataInTrash, x.DeletedAt, x.DeletedAt.Add(keep)
			if x.Before != "" {
				i.Name += fmt.Sprintf(" before %.12s", x.Before)
			}
		}
		out = append(out, i)
	}
	resting, restErr := d.databasesAtRest(ctx, out)
	return append(out, resting...), errors.Join(err, restErr)
}

// databasesAtRest are those that the ledger knows and nothing listed: without
// an object that needs it PostgreSQL does not run, and what is retained in it
// must not look as if it were gone.
func (d *Daemon) databasesAtRest(ctx context.Context, listed []v1alpha1.DataItem) ([]v1alpha1.DataItem, error) {
	entries, _, err := d.ledger.List(ctx)
	if err != nil {
		return nil, err
	}
	claims, err := compile.ReadClaims(entries)
	if err != nil {
		return nil, err
	}
	var out []v1alpha1.DataItem
	for _, key := range slices.Sorted(maps.Keys(claims.Data)) {
		name, isDatabase := strings.CutPrefix(key, string(resource.KindDatabase)+"/")
		known := func(i v1alpha1.DataItem) bool {
			return i.ID == databaseID+name || i.ID == databaseID+database.RetainedID(name)
		}
		if !isDatabase || slices.ContainsFunc(listed, known) {
			continue
		}
		r := claims.Data[key]
		out = append(out, v1alpha1.DataItem{
			ID: databaseID + database.RetainedID(name), Owner: v1alpha1.Ref{Kind: r.Kind, Name: r.Name}, What: v1alpha1.DataDatabase,
			Name: strings.TrimPrefix(name, d.naming.DatabaseName(r.Kind, r.Name, "")), State: v1alpha1.DataLeft,
		})
	}
	return out, nil
}

func (d *Daemon) databasesInUse() []v1alpha1.DataItem {
	var out []v1alpha1.DataItem
	for _, o := range d.engine.View().Result.Compiled.Objects {
		if o.Spec == nil {
			continue
		}
		for _, db := range slices.Concat(o.Spec.Databases, o.Unused) {
			name := d.naming.DatabaseName(o.Record.Kind, o.Record.Name, db.Name)
			out = append(out, v1alpha1.DataItem{
				ID: databaseID + name, Owner: v1alpha1.Ref{Kind: o.Record.Kind, Name: o.Record.Name},
				What: v1alpha1.DataDatabase, Name: db.Name, State: v1alpha1.DataInUse,
			})
		}
	}
	return out
}

// RestoreData implements server.Backend.
func (d *Daemon) RestoreData(ctx context.Context, id string) error {
	return d.onData(id, func(v string) error { return d.machines.RestoreData(ctx, v) }, func(v string) error { return d.databases.RestoreData(ctx, v) })
}

// DeleteData implements server.Backend. Data in use is refused by the drivers.
func (d *Daemon) DeleteData(ctx context.Context, id string) error {
	if slices.ContainsFunc(d.databasesInUse(), func(i v1alpha1.DataItem) bool { return i.ID == id }) {
		return conflict(id+" is in use", "delete its object first")
	}
	return d.onData(id, func(v string) error {
		if err := d.machines.DeleteData(ctx, v); err != nil {
			return err
		}
		return d.releaseData(ctx, resource.ID{Kind: resource.KindVolume, Name: v})
	}, func(v string) error {
		if err := d.databases.DeleteData(ctx, v); err != nil {
			return err
		}
		return d.releaseData(ctx, resource.ID{Kind: resource.KindDatabase, Name: strings.TrimPrefix(v, database.RetainedID(""))})
	})
}

// releaseData gives back the claim of data that is gone for good. Data in the
// trash has none.
func (d *Daemon) releaseData(ctx context.Context, id resource.ID) error {
	return d.ledger.Commit(ctx, []ledger.Op{ledger.Release(resource.Claim{Key: compile.DataKey(id), Owner: resource.HostOwner})})[0]
}

func (d *Daemon) onData(id string, onVolume, onDatabase func(string) error) error {
	var err error
	if v, ok := strings.CutPrefix(id, volumeID); ok {
		err = onVolume(v)
	} else if v, ok := strings.CutPrefix(id, databaseID); ok {
		err = onDatabase(v)
	} else {
		err = database.ErrNotFound
	}
	if errors.Is(err, database.ErrNotFound) {
		return &wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("there is no data %q", id), Next: "list it: tekton data list"}
	}
	return err
}
