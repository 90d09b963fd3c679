package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/host"
	"tekton.host/pkg/ledger"
	"tekton.host/pkg/reconcile"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/server/wire"
	"tekton.host/pkg/spec"
)

// document is one document that a client wants stored.
type document struct {
	spec.Object
	text string
}

// Apply implements server.Backend. All documents are checked before the first
// one is written.
func (d *Daemon) Apply(ctx context.Context, sourceName string, files []v1alpha1.File) ([]v1alpha1.ApplyResult, error) {
	c, err := d.sourceConfig(sourceName)
	if err != nil {
		return nil, err
	}
	if c.Git != nil {
		return nil, conflict(fmt.Sprintf("source %s is a git repository", c.Name), fmt.Sprintf("commit the specs to branch %s of %s and push", c.Git.Branch, c.Git.URL))
	}
	docs, err := d.readDocuments(c, files)
	if err != nil {
		return nil, err
	}
	results := make([]v1alpha1.ApplyResult, 0, len(docs))
	d.writing.Lock()
	defer d.writing.Unlock()
	for _, doc := range docs {
		r, err := d.store(ctx, c, doc)
		if err != nil {
			return results, err
		}
		results = append(results, r)
	}
	return results, nil
}

func (d *Daemon) sourceConfig(name string) (v1alpha1.SourceConfig, error) {
	for _, s := range d.opts.Host.Sources {
		if name == "" && s.Git == nil || s.Name == name {
			return s, nil
		}
	}
	if name == "" {
		return v1alpha1.SourceConfig{}, conflict("no source is a directory that specs could be written to", "commit the spec to the repository of a git source and push")
	}
	return v1alpha1.SourceConfig{}, &wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("there is no source %q", name), Next: "sources are listed in the daemon's configuration"}
}

func (d *Daemon) readDocuments(c v1alpha1.SourceConfig, files []v1alpha1.File) ([]document, error) {
	decode := d.decoder(c)
	var docs []document
	var problems []spec.Problem
	for _, f := range files {
		objects, ps := decode(f.Name, f.Data)
		problems = append(problems, ps...)
		texts := spec.Documents(f.Data)
		for _, o := range objects {
			docs = append(docs, document{o, texts[documentAt(texts, o.Position.Line)].Text})
		}
	}
	if len(problems) > 0 {
		return nil, invalid(problems)
	}
	return docs, nil
}

// store writes a document: over the stored one of the same kind and name,
// wherever that is in the source, else into a file of its own.
func (d *Daemon) store(ctx context.Context, c v1alpha1.SourceConfig, doc document) (v1alpha1.ApplyResult, error) {
	ref := doc.Ref()
	result := v1alpha1.ApplyResult{Ref: ref, Action: v1alpha1.ApplyCreated, Generation: 1}
	file := filepath.Join(c.Path, strings.ToLower(ref.Kind)+"-"+ref.Name+".yaml")
	var r compile.ObjectRecord
	entries, _, err := d.ledger.List(ctx)
	if err == nil {
		r, _, err = recordIn(entries, ref)
	}
	going := err == nil && goes(entries, r.UID)
	switch {
	case err != nil, going && r.Source != c.Name: // it comes anew
	case going:
		file = r.File
	case r.Source != c.Name:
		return result, conflict(fmt.Sprintf("%s belongs to source %q", ref, r.Source), "change it there: "+r.File)
	default:
		file, result.Generation = r.File, r.Generation
		result.Action = v1alpha1.ApplyUnchanged
		if r.Written() != doc.Digest {
			result.Action, result.Generation = v1alpha1.ApplyConfigured, r.Generation+1
		}
	}
	result.Source = v1alpha1.SourcePosition{Name: c.Name, File: file, Line: 1}
	return result, d.editFile(file, ref, doc.text)
}

// goes reports whether the deletion of an object was asked for: one of its name
// that is written now is another one, which comes when it is gone.
func goes(entries []resource.Claim, uid string) bool {
	return slices.ContainsFunc(entries, func(e resource.Claim) bool { return e.Key == compile.TombstoneKey(uid) })
}

// editFile replaces (or with an empty text removes) one document of a file and
// leaves the others as they are. A file without documents is removed. Between
// its reading and its writing nobody else writes: d.writing is held.
func (d *Daemon) editFile(file string, ref v1alpha1.Ref, text string) error {
	data, was, err := readPlain(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	edited, err := edit(file, data, ref, text, spec.Options{Host: &d.opts.Host})
	switch {
	case err != nil || bytes.Equal(edited, data):
		return err
	case edited == nil:
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			return err
		}
		return host.SyncDir(filepath.Dir(file))
	case was == nil:
		return host.WriteFile(file, edited, 0o644)
	}
	return host.RewriteFile(file, edited, was)
}

// readPlain reads a file that is to be written, and whose it is. Anything else of
// that name is neither read, for a pipe never ends, nor replaced: who made it meant
// something by it.
func readPlain(file string) ([]byte, fs.FileInfo, error) {
	info, err := os.Lstat(file)
	if err != nil {
		return nil, nil, err
	}
	if what := notPlain(info.Mode()); what != "" {
		e := &wire.Error{Code: wire.Conflict, Message: fmt.Sprintf("%s is %s; only plain files are written", file, what), Next: "move it away, then try again"}
		if info.Mode()&fs.ModeSymlink != 0 {
			e.Next = "change the file that the link leads to, or put a copy in the place of the link and try again"
		}
		return nil, nil, e
	}
	// Should it have been replaced since: not by way of a link, and without waiting.
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, nil, err
	}
	info, err = f.Stat()
	return data, info, err
}

// notPlain says what a file is that is no plain one.
func notPlain(mode fs.FileMode) string {
	switch mode.Type() {
	case 0:
		return ""
	case fs.ModeSymlink:
		return "a symbolic link"
	case fs.ModeDir:
		return "a directory"
	case fs.ModeNamedPipe:
		return "a named pipe"
	case fs.ModeSocket:
		return "a socket"
	}
	return "a device"
}

// Delete implements server.Backend: the document goes first, then the request
// is made durable, so that a crash in between is an ordinary removal.
func (d *Daemon) Delete(ctx context.Context, ref v1alpha1.Ref) (v1alpha1.DeleteResult, error) {
	d.writing.Lock()
	defer d.writing.Unlock()
	r, _, err := d.record(ctx, ref)
	if err != nil {
		return d.deleteRejected(ref, err)
	}
	ref.Kind = r.Kind
	if err := d.refuseCommitted(ref, r.Source); err != nil {
		return v1alpha1.DeleteResult{}, err
	}
	v, err := d.view()
	if err != nil {
		return v1alpha1.DeleteResult{}, err
	}
	_, configured := d.sources[r.Source]
	if err := refuseSecond(v.Result.Problems, r, configured); err != nil {
		return v1alpha1.DeleteResult{}, err
	}
	result := v1alpha1.DeleteResult{Ref: ref, UID: r.UID, Data: d.dataEffects(r)}
	return result, d.remove(ctx, r, "deleted with tekton delete")
}

// refuseSecond refuses to delete what a second document declares, which only
// waits for the name: the object would be back at once, made anew.
func refuseSecond(problems []reconcile.Problem, r compile.ObjectRecord, configured bool) error {
	instead := fmt.Sprintf("remove %s:%d instead", r.File, r.Line)
	if !configured {
		instead = "tekton release-deletes " + r.Source
	}
	for _, p := range problems {
		if p.Reason != spec.ReasonDuplicateName || p.Kind != r.Kind || p.Name != r.Name {
			continue
		}
		return &wire.Error{
			Code:    wire.Conflict,
			Message: fmt.Sprintf("%s/%s is declared a second time, at %s of source %s, which would make it anew", r.Kind, r.Name, p.Position, p.Source),
			Next:    "remove that document first; or, if it is to take the object's place: " + instead,
		}
	}
	return nil
}

// remove deletes an object, and its document where that can be written.
func (d *Daemon) remove(ctx context.Context, r compile.ObjectRecord, why string) error {
	ref := v1alpha1.Ref{Kind: r.Kind, Name: r.Name}
	if _, mine := d.sources[r.Source]; mine {
		if err := d.editFile(r.File, ref, ""); err != nil {
			return err
		}
	}
	raw, err := json.Marshal(compile.TombstoneRecord{ObjectRecord: r, Why: why})
	if err != nil {
		return err
	}
	claim := resource.Claim{Key: compile.TombstoneKey(r.UID), Owner: r.UID, Value: raw}
	err = d.ledger.Commit(ctx, []ledger.Op{ledger.Claim(claim)})[0]
	if errors.Is(err, resource.ErrStale) {
		err = nil // it is being deleted already: asked for before, or the engine saw the document go first
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = &wire.Error{
			Code: wire.Unavailable, Message: fmt.Sprintf("the document of %s is gone; that its deletion was asked for could not be written down: %v", ref, err),
			Next: "free space or inodes there (df -h, df -i); the deletion then goes on by itself",
		}
	}
	return err
}

// deleteRejected removes the document of an object that was never accepted.
func (d *Daemon) deleteRejected(ref v1alpha1.Ref, missing error) (v1alpha1.DeleteResult, error) {
	v, err := d.view()
	if err != nil {
		return v1alpha1.DeleteResult{}, err
	}
	for _, i := range v.Result.Items {
		if strings.EqualFold(i.Kind, ref.Kind) && i.Metadata.Name == ref.Name {
			return v1alpha1.DeleteResult{}, &wire.Error{
				Code: wire.Conflict, Message: fmt.Sprintf("%s is not accepted, so nothing of it exists but its document", ref),
				Next: fmt.Sprintf("remove or correct the document: %s:%d", i.Metadata.Source.File, i.Metadata.Source.Line),
			}
		}
	}
	return v1alpha1.DeleteResult{}, missing
}

// dataEffects says what the deletion of an object does to its data.
func (d *Daemon) dataEffects(r compile.ObjectRecord) []v1alpha1.PlanData {
	o, err := spec.FromJSON(r.Kind, r.Object)
	if err != nil {
		return nil
	}
	var out []v1alpha1.PlanData
	for _, x := range compile.DataOf(o) {
		effect := v1alpha1.DataRetained
		if x.Policy == resource.DeleteData {
			effect = v1alpha1.DataTrashed
		}
		out = append(out, v1alpha1.PlanData{What: v1alpha1.DataKind(x.Kind), Name: x.Name, Effect: effect})
	}
	return out
}
