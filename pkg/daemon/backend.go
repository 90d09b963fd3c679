package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/user"
	"slices"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/ledger"
	"tekton.host/pkg/machine/handover"
	"tekton.host/pkg/reconcile"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/server"
	"tekton.host/pkg/server/wire"
	"tekton.host/pkg/spec"
	"tekton.host/pkg/supervise"
)

var _ server.Backend = (*Daemon)(nil)

// Version implements server.Backend.
func (d *Daemon) Version(context.Context) (v1alpha1.VersionInfo, error) {
	v := d.opts.Version
	v.Installation, v.Instance = d.id, d.naming.Instance
	return v, nil
}

// view is the engine's last result, or why there is none yet.
func (d *Daemon) view() (reconcile.View, error) {
	v := d.engine.View()
	if v.Err != nil {
		return v, &wire.Error{Code: wire.Internal, Message: v.Err.Error(), Next: "see the daemon's log"}
	}
	if !v.Read {
		return v, &wire.Error{Code: wire.Unavailable, Message: "the daemon is still reading the host", Next: "try again in a moment"}
	}
	return v, nil
}

// List implements server.Backend.
func (d *Daemon) List(context.Context) ([]v1alpha1.Item, error) {
	v, err := d.view()
	return v.Result.Items, err
}

// Changed implements server.Backend.
func (d *Daemon) Changed() <-chan struct{} { return d.engine.Changed() }

// Sources implements server.Backend.
func (d *Daemon) Sources(context.Context) ([]v1alpha1.SourceStatus, error) {
	v, err := d.view()
	return d.withGit(v.Result.Sources), err
}

// Problems implements server.Backend.
func (d *Daemon) Problems(context.Context) ([]spec.Problem, error) {
	v, err := d.view()
	out := make([]spec.Problem, len(v.Result.Problems))
	for i, p := range v.Result.Problems {
		out[i] = p.Problem
	}
	return out, err
}

// Plan implements server.Backend.
func (d *Daemon) Plan(ctx context.Context, files []v1alpha1.File) (v1alpha1.PlanReport, error) {
	v, err := d.view()
	if err != nil {
		return v1alpha1.PlanReport{}, err
	}
	facts := v.Facts
	if len(files) > 0 {
		var objects []spec.Object
		for _, f := range files {
			if err := ctx.Err(); err != nil {
				return v1alpha1.PlanReport{}, err // nobody waits for it any more
			}
			decoded, problems := spec.Decode(f.Name, f.Data, spec.Options{Host: &d.opts.Host})
			if len(problems) > 0 {
				return v1alpha1.PlanReport{}, invalid(problems)
			}
			objects = append(objects, decoded...)
		}
		facts = reconcile.Overlay(facts, d.core, objects)
	}
	return reconcile.Report(ctx, d.core, facts)
}

func invalid(problems []spec.Problem) error {
	return &wire.Error{Code: wire.Invalid, Message: "the specs have problems", Next: "correct them; nothing was changed", Problems: problems}
}

// record finds an object's ledger entry.
func (d *Daemon) record(ctx context.Context, ref v1alpha1.Ref) (compile.ObjectRecord, resource.Claim, error) {
	entries, _, err := d.ledger.List(ctx)
	if err != nil {
		return compile.ObjectRecord{}, resource.Claim{}, err
	}
	return recordIn(entries, ref)
}

func recordIn(entries []resource.Claim, ref v1alpha1.Ref) (compile.ObjectRecord, resource.Claim, error) {
	for _, e := range entries {
		if !compile.IsObject(e.Key, ref.Name) {
			continue
		}
		var r compile.ObjectRecord
		if err := json.Unmarshal(e.Value, &r); err != nil {
			return r, e, fmt.Errorf("ledger entry %s: %w", e.Key, err)
		}
		if strings.EqualFold(r.Kind, ref.Kind) {
			return r, e, nil
		}
	}
	return compile.ObjectRecord{}, resource.Claim{}, notFound(ref)
}

// conflict says what is not in a state that allows something, and what to do.
func conflict(message, next string) error {
	return &wire.Error{Code: wire.Conflict, Message: message, Next: next}
}

func notFound(ref v1alpha1.Ref) error {
	return &wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("there is no %s", ref), Next: "list what there is: tekton get"}
}

// Restart implements server.Backend.
func (d *Daemon) Restart(ctx context.Context, ref v1alpha1.Ref) error {
	r, claim, err := d.record(ctx, ref)
	if err != nil {
		return err
	}
	if !v1alpha1.RunsMachine(r.Kind) {
		return conflict(fmt.Sprintf("%s runs no machine that could be restarted", ref), "restart what it is for: tekton get previews")
	}
	r.Restart++
	if claim.Value, err = json.Marshal(r); err != nil {
		return err
	}
	return d.ledger.Commit(ctx, []ledger.Op{ledger.Claim(claim)})[0]
}

// ReleaseDeletes implements server.Backend.
func (d *Daemon) ReleaseDeletes(ctx context.Context, name string) ([]v1alpha1.Ref, error) {
	v, err := d.view()
	if err != nil {
		return nil, err
	}
	for _, s := range v.Result.Sources {
		if s.Name == name {
			return s.Held, d.release(ctx, s, v)
		}
	}
	return nil, &wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("there is no source %q", name), Next: "sources are listed in the daemon's configuration"}
}

func (d *Daemon) release(ctx context.Context, s v1alpha1.SourceStatus, v reconcile.View) error {
	var ops []ledger.Op
	for _, ref := range s.Held {
		if item, found := v.Item(ref.Kind, ref.Name); found {
			ops = append(ops, ledger.Claim(resource.Claim{Key: reconcile.ReleaseKey(s.Name, item.Metadata.UID), Owner: item.Metadata.UID}))
		}
	}
	for _, err := range d.ledger.Commit(ctx, ops) {
		if err != nil {
			return err
		}
	}
	return nil
}

// machineOf is the incarnation that runs for an object.
func (d *Daemon) machineOf(ref v1alpha1.Ref) (serving, target string, err error) {
	o, err := d.compiled(ref)
	if err != nil {
		return "", "", err
	}
	if o.Serving != nil {
		serving = o.Serving.Machine
	}
	if o.Target != nil {
		target = o.Target.Machine
	}
	if serving == "" {
		serving = target
	}
	if serving == "" {
		return "", "", conflict(fmt.Sprintf("%s has no machine yet", ref), "see why: tekton describe "+ref.String())
	}
	return serving, target, nil
}

// compiled is what the engine has made of an object.
func (d *Daemon) compiled(ref v1alpha1.Ref) (compile.Compiled, error) {
	v, err := d.view()
	if err != nil {
		return compile.Compiled{}, err
	}
	i := slices.IndexFunc(v.Result.Compiled.Objects, func(o compile.Compiled) bool {
		return strings.EqualFold(o.Record.Kind, ref.Kind) && o.Record.Name == ref.Name
	})
	if i < 0 {
		return compile.Compiled{}, notFound(ref)
	}
	return v.Result.Compiled.Objects[i], nil
}

// Logs implements server.Backend. The newest machine's log is shown: that is
// where an update fails.
func (d *Daemon) Logs(ctx context.Context, ref v1alpha1.Ref, o v1alpha1.LogOptions) (io.ReadCloser, error) {
	if o.Build {
		return d.buildLog(ctx, ref, o)
	}
	serving, target, err := d.machineOf(ref)
	if err != nil {
		return nil, err
	}
	options := logOptions(o)
	machine := cmp.Or(target, serving)
	if o.Setup {
		return supervise.OpenLog(ctx, d.setups.Dir(machine), options)
	}
	if o.Previous && serving != machine {
		machine, options.Previous = serving, false // an update is under way, and this is what ran before
	}
	log, err := d.machines.OpenLog(ctx, machine, options)
	if errors.Is(err, supervise.ErrNoPrevious) {
		err = &wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("no log of an earlier start of %s is kept", ref), Next: "read the present one: tekton logs " + ref.String()}
	}
	return log, err
}

func logOptions(o v1alpha1.LogOptions) supervise.LogOptions {
	return supervise.LogOptions{Tail: o.Tail, Since: o.Since, Previous: o.Previous, Follow: o.Follow}
}

// buildLog is the log of the builds of an object's flake.
func (d *Daemon) buildLog(ctx context.Context, ref v1alpha1.Ref, o v1alpha1.LogOptions) (io.ReadCloser, error) {
	c, err := d.compiled(ref)
	if err != nil {
		return nil, err
	}
	if c.Closure == "" {
		return nil, conflict(fmt.Sprintf("%s is not built: its system is no flake", ref), "read its machine's log: tekton logs "+ref.String())
	}
	return supervise.OpenLog(ctx, d.builds.Dir(c.Closure), logOptions(o))
}

// Leader implements server.Backend.
func (d *Daemon) Leader(_ context.Context, ref v1alpha1.Ref) (server.Leader, error) {
	serving, _, err := d.machineOf(ref)
	if err != nil {
		return server.Leader{}, err
	}
	s, found, err := d.machines.Status(serving)
	if err != nil {
		return server.Leader{}, err
	}
	if !found || !s.Running || s.Leader == 0 {
		return server.Leader{}, conflict(fmt.Sprintf("the machine of %s does not run", ref), "see why: tekton describe "+ref.String())
	}
	o, err := d.compiled(ref)
	if err != nil {
		return server.Leader{}, err
	}
	boots := o.Spec != nil && len(o.Spec.Command) == 0
	return server.Leader{PID: s.Leader, Boot: s.Boot, Boots: boots, Launcher: []string{handover.InitPath, "enter"}}, nil
}

// socketGroup is a configured group where it exists; without it the socket is root's alone.
func (d *Daemon) socketGroup(socket, group string) string {
	if _, err := user.LookupGroup(group); err != nil {
		d.opts.Log.Info("the socket is for root only", "socket", socket, "group", group, "why", err.Error())
		return ""
	}
	return group
}

func (d *Daemon) form() string {
	if f := d.opts.Host.Runtime.Supervisor; f != "auto" && f != "" {
		return f
	}
	return string(supervise.DetectForm())
}
