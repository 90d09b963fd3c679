package compile

import (
	"cmp"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

const (
	setupDeadline = 10 * time.Minute
	setupFileMode = 0o400
)

// emitSetup wants what is to be done inside an incarnation. boot is that of the
// unit that runs and is attached; "": there is none, and what was done stays known.
func (c *compiler) emitSetup(u *unitOf, i *Incarnation, boot string) {
	id := resource.ID{Kind: resource.KindSetup, Name: i.Machine}
	have, present, known := observed[resource.Setup](c, i.Machine)
	asks := u.asWanted && i.Machine == u.Target.Machine
	switch {
	case !known:
		c.hold(id)
		return
	case asks && u.Spec.Setup == nil, !asks && !present:
		return
	case boot == "" && present:
		c.want(resource.New(u.Record.UID, i.Machine, i.Machine, have))
		return
	case boot == "":
		return
	}
	want := have
	if asks {
		want = c.setup(u)
		if asks = have.SameWork(want) || c.readyFor(u); !asks && !present {
			return
		}
		if want.Database == nil && asks {
			want.Database = have.Database // as long as nobody can look at it
		}
		if !asks {
			want = have // its services run on, and start again, with what was set up before
		}
	}
	want.Boot, want.Run = boot, resource.SetupRun{}
	want.Attempt = c.setupAttempt(have, want, asks)
	if have.Run.Running && have.SameWork(want) && have.Boot == boot {
		want = have // other files wait for the attempt that runs
	}
	c.want(resource.New(u.Record.UID, i.Machine, i.Machine, want))
}

// setupAttempt is the attempt that is under way, or due. What an incarnation was
// set up for before is tried again only until its services run.
func (c *compiler) setupAttempt(have, want resource.Setup, asks bool) int {
	want.Attempt = have.Attempt
	if !want.Equal(have) {
		return 1
	}
	if have.Run.Running || have.Run.Reason == "" || !asks && have.Run.Boot == want.Boot {
		return have.Attempt
	}
	due := c.retryAt(have.Run.Job)
	if due.After(c.Now) {
		c.wake(due)
		return have.Attempt
	}
	return have.Attempt + 1
}

// setup is what the spec asks for.
func (c *compiler) setup(u *unitOf) resource.Setup {
	s := u.Spec.Setup
	v := resource.Setup{
		Revision: s.Revision, Generation: s.Generation, Unit: s.Unit, Command: s.Command, User: cmp.Or(s.User, u.Spec.User), Services: s.Services,
		Boots: len(u.Spec.Command) == 0, Ephemeral: u.Spec.Ephemeral, Deadline: resource.Duration(cmp.Or(s.Deadline.Duration, setupDeadline)),
		Limits: limits(u.Spec.Resources), WorkDir: u.Spec.WorkingDirectory,
	}
	v.Database, _ = c.setupDatabase(u)
	if k := s.Checkout; k != nil {
		v.Checkout = &resource.SetupCheckout{Dir: k.Dir, Commit: k.Commit, Path: k.Path, User: k.User}
		v.WorkDir = k.Path
	}
	for _, f := range s.Files {
		v.Files = append(v.Files, c.setupFile(u, f))
	}
	return v
}

func (c *compiler) setupFile(u *unitOf, f v1alpha1.SetupFile) resource.SetupFile {
	out := resource.SetupFile{Path: f.Path, Mode: cmp.Or(f.Mode, setupFileMode), User: f.User, Content: f.Content, Hot: f.Hot, Signal: f.Signal}
	if f.Secret != "" {
		out.Secrets = append(out.Secrets, c.setupSecret(f.Secret, ""))
	}
	for _, k := range slices.Sorted(maps.Keys(f.Environment)) {
		out.Environment = append(out.Environment, k+"="+f.Environment[k])
	}
	for _, env := range slices.Sorted(maps.Keys(f.Secrets)) {
		out.Secrets = append(out.Secrets, c.setupSecret(f.Secrets[env], env))
	}
	for _, env := range slices.Sorted(maps.Keys(f.Databases)) {
		role := c.Naming.DatabaseName(u.Record.Kind, u.Record.Name, f.Databases[env])
		out.Secrets = append(out.Secrets, resource.Secret{Name: "database-" + f.Databases[env], File: c.passwordFile(role), Env: env, Format: c.databaseURL(role)})
	}
	return out
}

func (c *compiler) setupSecret(name, env string) resource.Secret {
	return resource.Secret{Name: name, File: filepath.Join(c.Layout.Secrets, name), Env: env, Digest: c.Secrets[name]}
}

// setupSecrets lists the secrets of the host that a setup delivers, sorted.
func setupSecrets(s *v1alpha1.SetupSpec) []string {
	if s == nil {
		return nil
	}
	names := map[string]bool{}
	for _, f := range s.Files {
		if f.Secret != "" {
			names[f.Secret] = true
		}
		for _, name := range f.Secrets {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// settledSetup reports whether an incarnation may be probed: nothing has to be
// done inside, or its services were started in this start.
func (c *compiler) settledSetup(u *unitOf, i *Incarnation, boot string) bool {
	have, present, known := observed[resource.Setup](c, i.Machine)
	if !present {
		asks := u.asWanted && i.Machine == u.Target.Machine && u.Spec.Setup != nil
		return known && !asks
	}
	return have.Run.Boot == boot
}

// setupFailed says why a start of an incarnation could not be set up, once it is
// given up: after some failures, or a deadline that was over.
func (c *compiler) setupFailed(i *Incarnation) (reason, message string, failed bool) {
	have, _, _ := observed[resource.Setup](c, i.Machine)
	run := have.Run
	over := run.Failures >= failuresBeforeRollback || run.Reason == resource.ReasonSetupTimeout
	if run.Running || run.Reason == "" || run.Boot != "" || !over {
		return "", "", false
	}
	return run.Reason, run.Message, true
}

// noteSetup says how the setup of the target goes.
func (c *compiler) noteSetup(u *unitOf) {
	if u.Target == nil {
		return
	}
	have, present, known := observed[resource.Setup](c, u.Target.Machine)
	if u.Spec.Setup == nil && !present {
		return
	}
	unit, _, _ := observed[resource.Unit](c, u.Target.Machine)
	note := Note{Type: v1alpha1.ConditionSetUp, Status: v1alpha1.ConditionFalse, Reason: "SettingUp"}
	run := have.Run
	revision := have.Revision
	if u.Spec.Setup != nil && u.asWanted {
		revision = u.Spec.Setup.Revision
	}
	u.SetUp = known && present && unit.Running && run.Boot == unit.Boot
	u.Setup = have
	switch {
	case c.noteDump(u):
		return
	case !known:
		note.Status, note.Reason = v1alpha1.ConditionUnknown, "Unknown"
		note.Message = "cannot look at it: " + c.Observed.Unknown(resource.ID{Kind: resource.KindSetup, Name: u.Target.Machine}).Error()
	case u.Asleep && present && run.Done == revision:
		note.Status, note.Reason, note.Message = v1alpha1.ConditionTrue, "SetUp", "revision "+run.Done
	case u.Asleep:
		note.Reason, note.Message = ReasonAsleep, "revision "+revision+" is set up when the next request wakes it"
	case !unit.Running, !present, have.Boot != unit.Boot, have.Revision != revision:
		note.Message = "it begins when the machine runs"
	case run.Running:
		note.Message = cmp.Or(run.Phase, resource.SetupDelivering)
	case run.Reason != "":
		note.Reason, note.Message, note.NextRetry = run.Reason, run.Message, c.retryAt(run.Job)
		log := lastWords(run.Log, have)
		if n := len(log); n > 0 && !strings.Contains(run.Message, log[n-1]) && !strings.Contains(log[n-1], run.Message) {
			note.Message += "; its log ends: " + strings.Join(log, " | ")
		}
	default:
		note.Status, note.Reason = v1alpha1.ConditionTrue, "SetUp"
		note.Message = "revision " + run.Done
	}
	u.Notes = append(u.Notes, note)
}

// lastWords are the last lines of a log that are the setup's own: neither ours,
// nor systemd's of its unit, of which the message tells.
func lastWords(log []string, s resource.Setup) []string {
	units := []string{s.Unit}
	if s.Database != nil {
		units = append(units, s.Database.Seed)
	}
	log = slices.DeleteFunc(slices.Clone(log), func(line string) bool {
		return strings.HasPrefix(line, "tekton: ") || slices.ContainsFunc(units, func(unit string) bool {
			return unit != "" && (strings.HasPrefix(line, unit+": ") || strings.HasPrefix(line, "Starting "+unit) || strings.HasPrefix(line, "Failed to start "+unit))
		})
	})
	return log[max(len(log)-3, 0):]
}
