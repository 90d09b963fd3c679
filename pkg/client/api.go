package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/server/wire"
	"tekton.host/pkg/spec"
)

func objectPath(ref v1alpha1.Ref, action string) string {
	return wire.PathObjects + "/" + url.PathEscape(ref.Kind) + "/" + url.PathEscape(ref.Name) + action
}

func sourcePath(name, action string) string {
	return wire.PathSources + "/" + url.PathEscape(name) + action
}

func get(path string) request { return request{method: http.MethodGet, path: path} }

// Version of the daemon.
func (c *Client) Version(ctx context.Context) (v1alpha1.VersionInfo, error) {
	return ask[v1alpha1.VersionInfo](ctx, c, get(wire.PathVersion))
}

// List returns all objects, sorted by kind and name.
func (c *Client) List(ctx context.Context) ([]v1alpha1.Item, error) {
	list, err := ask[v1alpha1.List](ctx, c, get(wire.PathObjects))
	return list.Items, err
}

// Watch yields what is there, WatchSynced, and then each change. It ends with
// an error: that of ctx, or why the daemon sends no more.
func (c *Client) Watch(ctx context.Context) iter.Seq2[v1alpha1.WatchEvent, error] {
	r := get(wire.PathObjects)
	r.query = url.Values{"watch": {""}}
	return stream[v1alpha1.WatchEvent](ctx, c, r, true)
}

// stream yields the documents of an answer as they come. One that is endless
// ends with an error: that of ctx, or why the daemon sends no more.
func stream[T any](ctx context.Context, c *Client, r request, endless bool) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		resp, err := c.do(ctx, r)
		if err != nil {
			yield(none, err)
			return
		}
		defer resp.Body.Close()
		in := json.NewDecoder(resp.Body)
		for {
			var v T
			err := in.Decode(&v)
			if err == io.EOF && !endless {
				return
			}
			if err != nil {
				yield(none, c.broken(ctx, err))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
	}
}

// broken explains a stream that ended before its end.
func (c *Client) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &UnreachableError{Socket: c.socket, Err: errors.New("the daemon ended the connection")}
	}
	return fmt.Errorf("read from the daemon: %w", err)
}

// Events yields the events that are kept and have a higher number than after;
// with follow also those that come, and then it ends with an error only.
func (c *Client) Events(ctx context.Context, after int64, follow bool) iter.Seq2[v1alpha1.Event, error] {
	r := get(wire.PathEvents)
	r.query = url.Values{"after": {strconv.FormatInt(after, 10)}}
	if follow {
		r.query.Set("follow", "")
	}
	return stream[v1alpha1.Event](ctx, c, r, follow)
}

// Sources returns the state of each source.
func (c *Client) Sources(ctx context.Context) ([]v1alpha1.SourceStatus, error) {
	return ask[[]v1alpha1.SourceStatus](ctx, c, get(wire.PathSources))
}

// Problems returns what is wrong with the files of the sources.
func (c *Client) Problems(ctx context.Context) ([]spec.Problem, error) {
	return ask[[]spec.Problem](ctx, c, get(wire.PathProblems))
}

// Plan returns the daemon's plan with files laid over what the sources hold.
func (c *Client) Plan(ctx context.Context, files []v1alpha1.File) (v1alpha1.PlanReport, error) {
	return ask[v1alpha1.PlanReport](ctx, c, request{method: http.MethodPost, path: wire.PathPlan, body: wire.PlanRequest{Files: files}})
}

// Apply writes files to a source; an empty source is the first one.
func (c *Client) Apply(ctx context.Context, source string, files []v1alpha1.File) ([]v1alpha1.ApplyResult, error) {
	return ask[[]v1alpha1.ApplyResult](ctx, c, request{method: http.MethodPost, path: wire.PathApply, body: wire.ApplyRequest{Source: source, Files: files}})
}

// Delete removes an object's document from its source.
func (c *Client) Delete(ctx context.Context, ref v1alpha1.Ref) (v1alpha1.DeleteResult, error) {
	return ask[v1alpha1.DeleteResult](ctx, c, request{method: http.MethodDelete, path: objectPath(ref, "")})
}

// History returns the latest generations of an object, oldest first.
func (c *Client) History(ctx context.Context, ref v1alpha1.Ref) ([]v1alpha1.Generation, error) {
	return ask[[]v1alpha1.Generation](ctx, c, get(objectPath(ref, "/history")))
}

// Restart asks for another start of an object's machine.
func (c *Client) Restart(ctx context.Context, ref v1alpha1.Ref) error {
	return c.tell(ctx, request{method: http.MethodPost, path: objectPath(ref, "/restart")})
}

// ReleaseDeletes lets a source's held deletions happen.
func (c *Client) ReleaseDeletes(ctx context.Context, source string) ([]v1alpha1.Ref, error) {
	return ask[[]v1alpha1.Ref](ctx, c, request{method: http.MethodPost, path: sourcePath(source, "/release-deletes")})
}

// SyncSource looks at a git source's remote now, and returns when the branch's
// commit is in effect.
func (c *Client) SyncSource(ctx context.Context, source string) (v1alpha1.GitStatus, error) {
	return ask[v1alpha1.GitStatus](ctx, c, request{method: http.MethodPost, path: sourcePath(source, "/sync")})
}

// SuspendSource has a git source not look at its remote.
func (c *Client) SuspendSource(ctx context.Context, source string) error {
	return c.tell(ctx, request{method: http.MethodPost, path: sourcePath(source, "/suspend")})
}

// ResumeSource has a git source look at its remote again.
func (c *Client) ResumeSource(ctx context.Context, source string) error {
	return c.tell(ctx, request{method: http.MethodPost, path: sourcePath(source, "/resume")})
}

// Logs returns the log of an object's machine, as the machine wrote it.
func (c *Client) Logs(ctx context.Context, ref v1alpha1.Ref, o v1alpha1.LogOptions) (io.ReadCloser, error) {
	q := url.Values{"tail": {strconv.Itoa(o.Tail)}}
	if !o.Since.IsZero() {
		q.Set("since", o.Since.Format(time.RFC3339Nano))
	}
	if o.Follow {
		q.Set("follow", "")
	}
	if o.Previous {
		q.Set("previous", "")
	}
	if o.Build {
		q.Set("build", "")
	}
	if o.Setup {
		q.Set("setup", "")
	}
	if o.Console {
		q.Set("console", "")
	}
	resp, err := c.do(ctx, request{method: http.MethodGet, path: objectPath(ref, "/logs"), query: q})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Usage returns what all running machines use.
func (c *Client) Usage(ctx context.Context) (v1alpha1.UsageReport, error) {
	return ask[v1alpha1.UsageReport](ctx, c, get(wire.PathUsage))
}

// ListSecrets returns the names of the host's secrets.
func (c *Client) ListSecrets(ctx context.Context) ([]v1alpha1.SecretInfo, error) {
	return ask[[]v1alpha1.SecretInfo](ctx, c, get(wire.PathSecrets))
}

// SetSecret stores a secret.
func (c *Client) SetSecret(ctx context.Context, name string, value []byte) error {
	return c.tell(ctx, request{method: http.MethodPut, path: wire.PathSecrets + "/" + url.PathEscape(name), body: value})
}

// DeleteSecret deletes a secret.
func (c *Client) DeleteSecret(ctx context.Context, name string) error {
	return c.tell(ctx, request{method: http.MethodDelete, path: wire.PathSecrets + "/" + url.PathEscape(name)})
}

// ListData returns volumes and databases, also of objects that are gone.
func (c *Client) ListData(ctx context.Context) ([]v1alpha1.DataItem, error) {
	return ask[[]v1alpha1.DataItem](ctx, c, get(wire.PathData))
}

// RestoreData takes data out of the trash.
func (c *Client) RestoreData(ctx context.Context, id string) error {
	return c.tell(ctx, request{method: http.MethodPost, path: wire.PathData + "/" + url.PathEscape(id) + "/restore"})
}

// Backup says what a backup of the daemon's host is made of.
func (c *Client) Backup(ctx context.Context) (v1alpha1.BackupInfo, error) {
	return ask[v1alpha1.BackupInfo](ctx, c, get(wire.PathBackup))
}

// BackupDatabase has a database dumped for a backup, and says how far that is.
func (c *Client) BackupDatabase(ctx context.Context, name string) (v1alpha1.DumpProgress, error) {
	return ask[v1alpha1.DumpProgress](ctx, c, request{method: http.MethodPost, path: wire.PathBackup + "/databases/" + url.PathEscape(name)})
}

// DeleteData deletes data for good.
func (c *Client) DeleteData(ctx context.Context, id string) error {
	return c.tell(ctx, request{method: http.MethodDelete, path: wire.PathData + "/" + url.PathEscape(id)})
}
