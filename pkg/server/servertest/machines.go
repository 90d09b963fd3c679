package servertest

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/server"
	"tekton.host/pkg/server/wire"
)

// Restart implements server.Machines.
func (b *Backend) Restart(_ context.Context, ref v1alpha1.Ref) error {
	unlock, err := b.enter("Restart", ref.String())
	defer unlock()
	if err == nil {
		_, err = b.find(ref)
	}
	return err
}

// Logs implements server.Machines. A log that is followed never ends by itself.
func (b *Backend) Logs(_ context.Context, ref v1alpha1.Ref, o v1alpha1.LogOptions) (io.ReadCloser, error) {
	unlock, err := b.enter("Logs", fmt.Sprintf("%s follow=%t tail=%d previous=%t since=%t", ref, o.Follow, o.Tail, o.Previous, !o.Since.IsZero()))
	defer unlock()
	if err != nil {
		return nil, err
	}
	if _, err := b.find(ref); err != nil {
		return nil, err
	}
	if b.state.LogReader != nil {
		return b.state.LogReader(ref), nil
	}
	text := b.state.Logs[ref.String()]
	if o.Previous {
		if text = b.state.Previous[ref.String()]; text == "" {
			return nil, &wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("no log of an earlier start of %s is kept", ref)}
		}
	}
	lines := slices.Collect(strings.Lines(text))
	if o.Tail >= 0 {
		lines = lines[max(0, len(lines)-o.Tail):]
	}
	text = strings.Join(lines, "")
	if !o.Follow {
		return io.NopCloser(strings.NewReader(text)), nil
	}
	r, w := io.Pipe()
	go io.WriteString(w, text)
	return r, nil
}

// Usage implements server.Machines: each asking is a second later, in which
// every machine has used half a CPU and received a kilobyte.
func (b *Backend) Usage(context.Context) (v1alpha1.UsageReport, error) {
	unlock, err := b.enter("Usage", "")
	defer unlock()
	u := &b.state.Usage
	u.Time = u.Time.Add(time.Second)
	for i := range u.Items {
		u.Items[i].CPUMicroseconds += 500_000
		u.Items[i].Received += 1024
	}
	return v1alpha1.UsageReport{Time: u.Time, Items: slices.Clone(u.Items)}, err
}

// Dial implements server.Machines: every machine is this host.
func (b *Backend) Dial(ctx context.Context, ref v1alpha1.Ref, port uint16) (net.Conn, error) {
	unlock, err := b.enter("Dial", fmt.Sprintf("%s %d", ref, port))
	if err == nil {
		_, err = b.find(ref)
	}
	unlock()
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(port)))
	if err != nil {
		return nil, &wire.Error{Code: wire.Unavailable, Message: fmt.Sprintf("port %d of %s: %v", port, ref, err)}
	}
	return conn, nil
}

// Leader implements server.Machines.
func (b *Backend) Leader(_ context.Context, ref v1alpha1.Ref) (server.Leader, error) {
	unlock, err := b.enter("Leader", "")
	defer unlock()
	if err != nil {
		return server.Leader{}, err
	}
	if _, err := b.find(ref); err != nil {
		return server.Leader{}, err
	}
	l, ok := b.state.Leaders[ref]
	if !ok {
		return l, &wire.Error{Code: wire.Conflict, Message: fmt.Sprintf("the machine of %s does not run", ref), Next: "see why: tekton describe " + ref.String()}
	}
	return l, nil
}

// ListSecrets implements server.Secrets.
func (b *Backend) ListSecrets(context.Context) ([]v1alpha1.SecretInfo, error) {
	unlock, err := b.enter("ListSecrets", "")
	defer unlock()
	return slices.Clone(b.state.Secrets), err
}

// SetSecret implements server.Secrets.
func (b *Backend) SetSecret(_ context.Context, name string, value []byte) error {
	unlock, err := b.enter("SetSecret", name)
	defer unlock()
	if err != nil {
		return err
	}
	b.values[name] = value
	if !slices.ContainsFunc(b.state.Secrets, func(s v1alpha1.SecretInfo) bool { return s.Name == name }) {
		b.state.Secrets = append(b.state.Secrets, v1alpha1.SecretInfo{Name: name, UpdatedAt: time.Now()})
	}
	return nil
}

// DeleteSecret implements server.Secrets.
func (b *Backend) DeleteSecret(_ context.Context, name string) error {
	unlock, err := b.enter("DeleteSecret", name)
	defer unlock()
	if err != nil {
		return err
	}
	before := len(b.state.Secrets)
	b.state.Secrets = slices.DeleteFunc(b.state.Secrets, func(s v1alpha1.SecretInfo) bool { return s.Name == name })
	if len(b.state.Secrets) == before {
		return &wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("there is no secret %q", name)}
	}
	return nil
}

// Backup implements server.Backups.
func (b *Backend) Backup(context.Context) (v1alpha1.BackupInfo, error) {
	unlock, err := b.enter("Backup", "")
	defer unlock()
	return b.state.Backup, err
}

// BackupDatabase implements server.Backups.
func (b *Backend) BackupDatabase(_ context.Context, name string) (v1alpha1.DumpProgress, error) {
	unlock, err := b.enter("BackupDatabase", name)
	defer unlock()
	return v1alpha1.DumpProgress{Done: true}, err
}

// ListData implements server.Data.
func (b *Backend) ListData(context.Context) ([]v1alpha1.DataItem, error) {
	unlock, err := b.enter("ListData", "")
	defer unlock()
	return slices.Clone(b.state.Data), err
}

// RestoreData implements server.Data.
func (b *Backend) RestoreData(_ context.Context, id string) error {
	return b.data("RestoreData", id, func(i int) { b.state.Data[i].State = v1alpha1.DataLeft })
}

// DeleteData implements server.Data.
func (b *Backend) DeleteData(_ context.Context, id string) error {
	return b.data("DeleteData", id, func(i int) { b.state.Data = slices.Delete(b.state.Data, i, i+1) })
}

func (b *Backend) data(method, id string, change func(i int)) error {
	unlock, err := b.enter(method, id)
	defer unlock()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(b.state.Data, func(d v1alpha1.DataItem) bool { return d.ID == id })
	if i < 0 {
		return &wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("there is no data %q", id)}
	}
	if b.state.Data[i].State == v1alpha1.DataInUse {
		return &wire.Error{Code: wire.Conflict, Message: fmt.Sprintf("data %q is used by %s", id, b.state.Data[i].Owner)}
	}
	change(i)
	return nil
}

// Version implements server.Backend.
func (b *Backend) Version(context.Context) (v1alpha1.VersionInfo, error) {
	unlock, err := b.enter("Version", "")
	defer unlock()
	return b.state.Version, err
}
