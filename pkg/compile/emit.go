package compile

import (
	"maps"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

// emit wants all resources of a live object.
func (c *compiler) emit(u *unitOf) {
	if !u.live || u.keep {
		return
	}
	c.policies(u)
	c.emitData(u)
	c.emitDump(u)
	for _, i := range u.incarnations() {
		c.emitIncarnation(u, &i)
	}
	c.emitExceptions(u)
	c.emitRecord(u)
	c.emitGate(u)
	c.emitRoutes(u)
}

// emitData wants volumes, databases and what leads to them, and remembers in
// the ledger whose they are.
func (c *compiler) emitData(u *unitOf) {
	if u.conflicted() {
		return // the claims stay with the source that has them
	}
	for _, key := range c.dataKeys(u) {
		c.wantRecord(dataPrefix+key, resource.HostOwner, DataRecord{Kind: u.Record.Kind, Name: u.Record.Name, Source: u.Record.Source})
	}
	// What an incarnation uses that an update replaces, or went back to, stays
	// beside what the wanted spec asks for. The wanted one comes last: it decides.
	for _, i := range u.incarnations() {
		if was := u.before(&i); was != nil {
			c.emitDataOf(u, c.specOf(u, was))
		}
		if s := c.specOf(u, &i); s != u.Spec {
			c.emitDataOf(u, s)
		}
	}
	if u.effective != u.Spec {
		c.emitDataOf(u, u.effective)
	}
	c.emitDataOf(u, u.Spec)
	c.keepUnused(u)
}

func (c *compiler) emitDataOf(u *unitOf, s *v1alpha1.ContainerSpec) {
	uid := u.Record.UID
	for _, v := range volumesOf(s) {
		if c.awaits(u, v) {
			continue
		}
		value := resource.Volume{
			ObjectKind: u.Record.Kind, ObjectName: u.Record.Name, Volume: v.Name,
			Policy: resource.DeletionPolicy(v.DeletionPolicy), Clone: u.clones[v.Name],
		}
		if v.SizeMax != nil {
			value.SizeMax = v.SizeMax.Bytes
		}
		c.want(resource.New(uid, "", resource.VolumeName(u.Record.Kind, u.Record.Name, v.Name), value))
	}
	for _, d := range s.Databases {
		name := c.Naming.DatabaseName(u.Record.Kind, u.Record.Name, d.Name)
		file := c.passwordFile(name)
		c.want(resource.New(uid, "", name, resource.Password{File: file}))
		c.want(resource.New(uid, "", name, resource.Role{Name: name, PasswordFile: file, ConnectionLimit: c.Host.Postgres.ConnectionLimit}))
		c.want(resource.New(uid, "", name, c.history(u, resource.Database{
			Name: name, Owner: name, Extensions: slices.Sorted(slices.Values(d.Extensions)), Policy: resource.DeletionPolicy(d.DeletionPolicy),
			Label: u.Record.Kind + "/" + u.Record.Name + "/" + d.Name, Template: d.Template,
		})))
	}
}

// madeFor is the spec whose data an incarnation uses. While no new one may start
// (a secret is missing), it runs on with what the wanted spec may have dropped.
func (c *compiler) madeFor(u *unitOf, i *Incarnation, spec *v1alpha1.ContainerSpec) *v1alpha1.ContainerSpec {
	if u.noStart {
		return c.specOf(u, i)
	}
	return spec
}

func (u *unitOf) conflicted() bool {
	return slices.ContainsFunc(u.Notes, func(n Note) bool { return n.Reason == "DataConflict" })
}

func (c *compiler) passwordFile(role string) string { return filepath.Join(c.Layout.Passwords(), role) }

// emitIncarnation wants the resources of one instance.
func (c *compiler) emitIncarnation(u *unitOf, i *Incarnation) {
	isFormer := u.Target != nil && i.Machine != u.Target.Machine
	spec := u.effective
	if isFormer {
		spec = c.specOf(u, i)
	}
	if !c.durable(*i) {
		// The slot is not durably ours yet. Should the instance be there already,
		// the ledger has lost the claim: nothing is touched until it is back.
		c.holdInstance(u, i)
		return
	}
	uid := u.Record.UID
	instance := c.instance(u, spec, i)
	c.want(resource.New(uid, i.Machine, i.Machine, instance))
	if target := c.inStore(instance); target != "" {
		c.want(resource.New(uid, i.Machine, i.Machine, resource.GCRoot{Target: target}))
	}
	enabled := !u.Spec.Disabled() && !u.Asleep && !u.refused(i)
	// The former stops only when the directory of its successor is ready.
	if !enabled || c.givesWay(u, i) {
		c.emitSetup(u, i, "")
		return
	}
	addr := c.Naming.Addr(i.Slot)
	// The firewall and the database follow the wanted spec: they change hot.
	c.want(resource.New(uid, i.Machine, i.Link, c.endpoint(u, spec, i, !isFormer)))
	for _, d := range c.madeFor(u, i, spec).Databases {
		name := c.Naming.DatabaseName(u.Record.Kind, u.Record.Name, d.Name)
		c.want(resource.New(uid, i.Machine, name+"@"+addr.String(), resource.Access{Role: name, Database: name, Addr: addr}))
	}
	link := resource.Link{Name: i.Link, Peer: c.Naming.Peer(i.Slot), Label: i.Machine, HostAddr: c.Naming.HostAddr(i.Slot), Addr: addr}
	c.want(resource.New(uid, i.Machine, i.Link, link))
	c.emitUnit(u, spec, i, link)
}

// inStore is what of the Nix store an incarnation runs on, "" for nothing.
func (c *compiler) inStore(i resource.Instance) string {
	if i.System.Host && c.NixOS {
		// Each start takes the system that is the host's current one then.
		return c.Layout.SystemLink(i.Name)
	}
	return i.System.StorePath
}

// holdInstance leaves all that is there of an incarnation as it is.
func (c *compiler) holdInstance(u *unitOf, i *Incarnation) {
	left, _ := c.ownedBy(u)
	for _, r := range left {
		if r.Instance == i.Machine {
			c.hold(r.ID)
		}
	}
}

// durable reports whether the ledger has the incarnation's slot as its own.
func (c *compiler) durable(i Incarnation) bool { return c.Claims.Slots[i.Slot].Machine == i.Machine }

func (c *compiler) prepared(i *Incarnation) bool {
	_, present, _ := observed[resource.Instance](c, i.Machine)
	return present
}

// emitUnit wants the running machine, unless it must wait, and what needs it to run.
func (c *compiler) emitUnit(u *unitOf, spec *v1alpha1.ContainerSpec, i *Incarnation, link resource.Link) {
	uid := u.Record.UID
	unit, present, known := observed[resource.Unit](c, i.Machine)
	id := resource.ID{Kind: resource.KindUnit, Name: i.Machine}
	if !known {
		c.hold(id)
		c.hold(resource.ID{Kind: resource.KindAttachment, Name: i.Link})
		c.emitSetup(u, i, "")
		return
	}
	if !c.mayStart(u, spec, i, unit, present) {
		if present {
			c.hold(id)
		}
	} else {
		wanted := resource.Unit{Name: i.Machine, Running: true, StopTimeout: stopTimeout(spec), Generation: u.Record.Restart}
		if i.Container != "" {
			wanted.Fingerprint = i.Fingerprint
		}
		c.want(resource.New(uid, i.Machine, i.Machine, wanted))
		c.out.Desired.Exclusive[id] = u.Update != StrategyOverlap
	}
	if !present || !unit.Running || unit.Leader == 0 {
		c.emitSetup(u, i, "")
		return
	}
	c.want(resource.New(uid, i.Machine, i.Link, resource.Attachment{Link: link, Service: c.Naming.Service(), Leader: unit.Leader}))
	if _, attached, _ := observed[resource.Attachment](c, i.Link); !attached {
		c.emitSetup(u, i, "")
		return
	}
	c.emitSetup(u, i, unit.Boot)
	if c.settledSetup(u, i, unit.Boot) {
		setup, _, _ := observed[resource.Setup](c, i.Machine)
		c.want(resource.New(uid, i.Machine, i.Machine, resource.Answer{Addr: link.Addr, Probe: probe(c.servedSpec(u, i)), Boot: unit.Boot, Setup: setup.Run.Started}))
	}
}

// mayStart decides whether a unit that does not run is to be started now, and
// notes why not.
func (c *compiler) mayStart(u *unitOf, spec *v1alpha1.ContainerSpec, i *Incarnation, unit resource.Unit, present bool) bool {
	if present && unit.Running {
		return true
	}
	if u.noStart {
		return false
	}
	if !present {
		return c.answeredBefore(i) || c.dependenciesReady(u)
	}
	if unit.Generation < u.Record.Restart {
		return true
	}
	switch {
	case spec.RestartPolicy == "Never", spec.RestartPolicy == "OnFailure" && unit.ExitCode == 0:
		u.note(v1alpha1.ConditionStarted, v1alpha1.ConditionFalse, "Completed", "%s; restartPolicy %s does not start it again", exitMessage(unit), spec.RestartPolicy)
		return false
	}
	if due, early := c.waits(unit.ExitedAt, restartDelay(unit.Failures)); early {
		reason := "Restarting"
		if unit.Failures >= failuresBeforeRollback {
			reason = "CrashLoopBackOff"
		}
		u.note(v1alpha1.ConditionStarted, v1alpha1.ConditionFalse, reason, "%s", exitMessage(unit))
		u.Notes[len(u.Notes)-1].NextRetry = due
		c.wake(due)
		return false
	}
	return true
}

// dependenciesReady delays the first start until the named objects have answered.
func (c *compiler) dependenciesReady(u *unitOf) bool {
	var waiting []string
	for _, name := range u.Spec.DependsOn {
		t := c.targets[name]
		if t == nil || t.Serving == nil {
			waiting = append(waiting, name)
		}
	}
	if len(waiting) == 0 {
		return true
	}
	slices.Sort(waiting)
	u.note(v1alpha1.ConditionStarted, v1alpha1.ConditionFalse, "WaitingForDependency", "waits for %s to answer first (dependsOn)", strings.Join(waiting, ", "))
	return false
}

func stopTimeout(s *v1alpha1.ContainerSpec) resource.Duration {
	if s.StopTimeout == nil {
		return resource.Duration(10 * time.Second)
	}
	return resource.Duration(s.StopTimeout.Duration)
}

func probe(s *v1alpha1.ContainerSpec) resource.Probe {
	p := resource.Probe{Timeout: resource.Duration(time.Second), Deadline: resource.Duration(time.Minute)}
	if len(s.Routes) > 0 {
		p.Port = s.Routes[0].Port
	}
	if s.Probe == nil {
		return p
	}
	if s.Probe.HTTP != nil {
		p.HTTPPath, p.Port = s.Probe.HTTP.Path, s.Probe.HTTP.Port
	}
	if s.Probe.TCP != nil {
		p.Port = s.Probe.TCP.Port
	}
	for _, d := range []struct {
		from *v1alpha1.Duration
		to   *resource.Duration
	}{{s.Probe.Timeout, &p.Timeout}, {s.Probe.Deadline, &p.Deadline}, {s.Probe.Interval, &p.Interval}} {
		if d.from != nil {
			*d.to = resource.Duration(d.from.Duration)
		}
	}
	if s.Preview != nil { // its services start again without the machine, each for itself
		for _, r := range s.Routes {
			if r.Port != p.Port {
				p.Routed = append(p.Routed, r.Port)
			}
		}
		slices.Sort(p.Routed)
		p.Routed = slices.Compact(p.Routed)
	}
	return p
}

// instance renders what a machine reads at its start.
func (c *compiler) instance(u *unitOf, s *v1alpha1.ContainerSpec, i *Incarnation) resource.Instance {
	v := resource.Instance{
		Name: i.Machine, Ordinal: i.Ordinal, Slot: i.Slot, Fingerprint: i.Fingerprint, Hostname: u.Record.Name,
		System:  resource.System{Host: s.System.Host, RootFS: s.System.RootFS, StorePath: s.System.StorePath},
		Command: s.Command, User: s.User, WorkDir: s.WorkingDirectory, Capability: s.Capabilities,
		UIDBase: c.Naming.UIDBase(i.Slot), Ephemeral: s.Ephemeral, Limits: limits(s.Resources),
		Addr: c.Naming.Addr(i.Slot), StopTimeout: stopTimeout(s),
		Container: i.Container, HostNix: i.Container != "" && s.Trust == "trusted",
	}
	if hostIDs(s) {
		v.UIDBase = 0
	}
	if c.Host.DNS.Mode != "none" {
		v.DNS = c.Naming.Service()
	}
	for _, k := range slices.Sorted(maps.Keys(s.Environment)) {
		v.Environment = append(v.Environment, k+"="+s.Environment[k])
	}
	for _, vol := range volumesOf(s) {
		v.Volumes = append(v.Volumes, resource.Bind{Source: resource.VolumeName(u.Record.Kind, u.Record.Name, vol.Name), Target: vol.Path})
	}
	for _, m := range s.Mounts {
		v.Mounts = append(v.Mounts, resource.Bind{Source: m.HostPath, Target: m.Path, ReadOnly: m.ReadOnly == nil || *m.ReadOnly})
	}
	if len(s.Mounts) > 0 || s.System.RootFS != "" {
		v.HostPaths = c.hostPaths(u.Record.Source)
	}
	for _, d := range s.Databases {
		role := c.Naming.DatabaseName(u.Record.Kind, u.Record.Name, d.Name)
		v.Secrets = append(v.Secrets, resource.Secret{Name: "database-" + d.Name, File: c.passwordFile(role), Env: d.Env, Format: c.databaseURL(role)})
	}
	if l := s.Login; l != nil {
		v.Login = &resource.Login{User: l.User, Home: l.Home, Keys: l.Keys, HostKey: hostKeyName(u.Record), KeyFile: c.Layout.Key()}
	}
	for _, cr := range s.Credentials {
		name := secretName(cr)
		v.Secrets = append(v.Secrets, resource.Secret{
			Name: cr.Name, File: filepath.Join(c.Layout.Secrets, name), Path: cr.Path, Env: cr.Env, Digest: c.Secrets[name],
		})
	}
	return v
}

// hostPaths are the directories that a source is limited to.
func (c *compiler) hostPaths(source string) []string {
	for _, s := range c.Host.Sources {
		if s.Name == source && s.Allow != nil {
			return s.Allow.HostPaths
		}
	}
	return nil
}

// databaseURL is a format whose %s is the URL-escaped password.
func (c *compiler) databaseURL(role string) string {
	at := netip.AddrPortFrom(c.Naming.Service(), uint16(c.Host.Postgres.Port))
	return "postgresql://" + url.PathEscape(role) + ":%s@" + at.String() + "/" + url.PathEscape(role)
}

func limits(r v1alpha1.Resources) resource.Limits {
	l := resource.Limits{CPUWeight: r.CPUWeight, IOWeight: r.IOWeight, TasksMax: r.TasksMax}
	if r.MemoryMax != nil {
		l.MemoryMax = r.MemoryMax.Bytes
	}
	if r.MemoryHigh != nil {
		l.MemoryHigh = r.MemoryHigh.Bytes
	}
	if r.DiskMax != nil {
		l.DiskMax = r.DiskMax.Bytes
	}
	// Absent is no quota; anything else was validated.
	l.CPUQuota, _ = v1alpha1.ParseCPUQuota(r.CPUQuota)
	return l
}
