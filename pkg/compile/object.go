package compile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/preview"
	"tekton.host/pkg/resource"
)

// unitOf is one object on its way through the compiler.
type unitOf struct {
	Compiled
	object Object
	live   bool // has a spec and is not being deleted
	// keep says that nothing of the object may change now: paused, or an input is unknown.
	keep bool
	// waiting says that it is not known yet what the object will be: a flake is not
	// built, or a repository not fetched.
	waiting bool
	// revision that a preview is made for.
	revision *preview.Revision
	// noStart says that no new incarnation may be made or started now.
	noStart bool
	// ttl is how far its time has come; nil without end.
	ttl *TTLRecord
	// clones are what new volumes are made of, by their names.
	clones map[string]resource.Clone
	// asWanted says that Target has the fingerprint that the spec asks for now, and
	// that nothing holds it back: the spec's setup, which is no part of it, may be asked of it.
	asWanted bool
	// effective is the spec of Target: the wanted one, or, after a rollback, the former one.
	effective *v1alpha1.ContainerSpec
	// linkers are the objects that declare a link to this one.
	linkers []*unitOf
	// draining incarnations run on until no request can be on its way to them.
	draining []Incarnation
	// dropped incarnations are only waited for until nothing of them is left.
	dropped []Incarnation
}

func (u *unitOf) note(typ string, status v1alpha1.ConditionStatus, reason, format string, args ...any) {
	u.Notes = append(u.Notes, Note{Type: typ, Status: status, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

// begin reads the object's spec and registers it for links by name.
func (c *compiler) begin(o Object) *unitOf {
	u := &unitOf{object: o, Compiled: Compiled{Record: o.Record, Verdict: o.Verdict, Why: o.Why}}
	if o.Spec != nil {
		u.Meta = o.Spec.Meta()
		u.Spec, u.Declared = o.Spec.Machine(), o.Spec.Declared()
	}
	if u.Spec != nil && (o.Verdict == Refused || len(o.Refused) > 0) {
		narrowed := *u.Spec
		if narrowed.Paused = false; o.Verdict == Refused {
			narrowed.Enabled = new(false)
		}
		u.Spec = &narrowed
	}
	u.effective = u.Spec
	u.live = o.Verdict != Gone && u.Spec != nil
	if !u.live {
		return u
	}
	if u.Spec.Login != nil {
		u.HostKey = c.HostKey(hostKeyName(u.Record))
	}
	c.expire(u)
	c.targets[o.Record.Name] = u
	return u
}

// settle decides which incarnations the object has and claims what it needs.
func (c *compiler) settle(u *unitOf) {
	if u.RunsNoMachine() && u.Verdict != Gone {
		c.out.Desired.Complete[u.Record.UID] = true
		c.wantRecord(ObjectKey(u.Record.Kind, u.Record.Name), u.Record.UID, u.Record)
		return
	}
	if !u.live {
		c.configureGone(u)
		c.bury(u)
		return
	}
	for _, l := range u.Spec.Network.Links {
		if t := c.targets[l.To]; t != nil {
			t.linkers = append(t.linkers, u)
		}
	}
	if c.noteUnreadable(u) {
		u.keep = true
		c.keepRoutes(u, true)
	}
	if u.Spec.Paused {
		u.keep = true
	}
	c.configure(u)
	c.rest(u)
	c.resolveSystem(u)
	c.resolveVolumes(u)
	fingerprint, ok := c.inputs(u)
	if !ok {
		u.keep = true
	}
	c.keepUnclaimed(u)
	c.chooseIncarnations(u, fingerprint)
	u.rouse()
	u.asWanted = u.Target != nil && u.Target.Fingerprint == fingerprint && !u.waiting && !u.noStart
	c.noteSetup(u)
	if u.keep {
		return
	}
	c.keepHistory(u)
	uid := u.Record.UID
	c.out.Desired.Complete[uid] = true
	c.wantRecord(ObjectKey(u.Record.Kind, u.Record.Name), uid, u.Record)
	if u.ttl != nil {
		c.wantRecord(ttlPrefix+uid, uid, *u.ttl)
	}
	for _, inc := range append(slices.Clone(u.dropped), u.incarnations()...) {
		c.wantRecord(instanceKey(uid, inc.Ordinal), uid, inc.InstanceRecord)
		c.slots.keep(inc.Slot, inc.Machine)
	}
}

// incarnations are those that run, or are to.
func (u *unitOf) incarnations() []Incarnation {
	is := slices.Clone(u.draining)
	if u.Former != nil {
		is = append(is, *u.Former)
	}
	if u.Target != nil {
		is = append(is, *u.Target)
	}
	return is
}

// inputs checks secrets and data, and returns the wanted fingerprint. ok is
// false when an input is unknown: then everything stays as it is.
func (c *compiler) inputs(u *unitOf) (fingerprint string, ok bool) {
	digests := []string{} // none is an empty list in fingerprints
	var missing []string
	for _, name := range SecretsOf(u.Spec) {
		if c.SecretsErr != nil {
			u.noteSecretsUnreadable(c.SecretsErr)
			return "", false
		}
		d, found := c.Secrets[name]
		if !found {
			missing = append(missing, name)
		}
		digests = append(digests, d)
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		missing = slices.Compact(missing)
		u.noStart = true
		u.noteSecretMissing(missing...)
		return "", true
	}
	if c.runtimeChanged(u) {
		return "", false
	}
	c.checkData(u)
	digests = digests[:len(u.Spec.Credentials)] // a setup's own are delivered again
	if u.Spec.Login != nil {
		digests = append(digests, u.HostKey)
	}
	return Fingerprint(u.Spec, digests), true
}

// hostKeyName is what an object's ssh host key is derived for: it is the same
// whenever there is an object of that kind and name.
func hostKeyName(r ObjectRecord) string { return r.Kind + "/" + r.Name }

func (u *unitOf) noteSecretsUnreadable(err error) {
	u.note(v1alpha1.ConditionSecretsReady, v1alpha1.ConditionUnknown, "SecretsUnreadable", "the secrets directory cannot be read: %v", err)
}

func (u *unitOf) noteSecretMissing(names ...string) {
	u.note(v1alpha1.ConditionSecretsReady, v1alpha1.ConditionFalse, "SecretMissing",
		"secret %s is not on this host; set it with: tekton secret set %s", strings.Join(names, ", "), names[0])
}

func secretName(cr v1alpha1.Credential) string {
	if cr.Secret != "" {
		return cr.Secret
	}
	return cr.Name
}

// wantRecord keeps the ledger's entry where it says the same already: its bytes
// are then not rendered anew, and an upgrade that renders differently writes nothing.
func (c *compiler) wantRecord(key, owner string, record any) {
	if c.Claims.says(key, owner, record) {
		c.want(resource.New(owner, "", key, c.Claims.All[key]))
		return
	}
	next := claim(key, owner, record)
	if old, found := c.Claims.All[key]; found && old.Owner == owner && string(old.Value) == string(next.Value.(resource.Claim).Value) {
		next = resource.New(owner, "", key, old)
	}
	c.want(next)
}

// bury keeps the tombstone and the claims of a deleted object until nothing of
// it is left on the host, then lets them all go at once.
func (c *compiler) bury(u *unitOf) {
	uid := u.Record.UID
	if u.object.Verdict != Gone {
		// A record without a readable spec: an older version's kind. Nothing is touched.
		u.keep = true
		c.holdJobs()
		u.note(v1alpha1.ConditionSpecValid, v1alpha1.ConditionFalse, "UnknownKind", "kind %s is not known to this version of tekton", u.Record.Kind)
		return
	}
	c.out.Desired.Complete[uid] = true
	if u.Spec != nil {
		c.policies(u)
		c.markTrashed(u)
	}
	left, known := c.ownedBy(u)
	_, entombed := c.Claims.Tombstones[uid]
	// Only a buried object says that its data is in the trash: first go the claims on that.
	if entombed && known && len(left) == 0 && !c.claimsTrash(u) {
		return
	}
	// The tombstone first: without it nothing of the object goes.
	c.wantRecord(TombstoneKey(uid), uid, TombstoneRecord{ObjectRecord: u.Record, Why: u.Why})
	for key, e := range c.Claims.All {
		if e.Owner == uid && key != TombstoneKey(uid) {
			c.want(resource.New(uid, "", key, e))
		}
	}
	for _, r := range c.Claims.Instances[uid] {
		c.slots.keep(r.Slot, c.Naming.Machine(u.Record.Name, r.Ordinal))
	}
	if !entombed || c.noteUnreadable(u) {
		c.out.Desired.Complete[uid] = false
	}
}

// noteUnreadable reports whether something of an object on the host cannot be
// read. Nothing of the object may change then: what else it has may depend on that.
func (c *compiler) noteUnreadable(u *unitOf) bool {
	id, err := c.unreadable(u)
	if err != nil {
		u.note(v1alpha1.ConditionStarted, v1alpha1.ConditionUnknown, "Unreadable", "%s cannot be read: %v; until then nothing of %s is changed", id, err, u.Record.Name)
	}
	return err != nil
}

// markCycles refuses objects whose dependsOn lead back to themselves.
func (c *compiler) markCycles(units []*unitOf) {
	for _, u := range units {
		if !u.live {
			continue
		}
		if path := c.cycle(u.Record.Name, u, nil, map[string]bool{}); path != nil {
			u.noStart = true
			u.note(v1alpha1.ConditionSpecValid, v1alpha1.ConditionFalse, "DependencyCycle",
				"dependsOn leads back to the object itself: %s; remove one of these", strings.Join(path, " → "))
		}
	}
}

// cycle is a path from u back to start. What was seen once leads there by no
// other way either: the number of ways grows exponentially.
func (c *compiler) cycle(start string, u *unitOf, path []string, seen map[string]bool) []string {
	path = append(slices.Clone(path), u.Record.Name)
	for _, name := range u.Spec.DependsOn {
		if name == start {
			return append(path, name)
		}
		if next := c.targets[name]; next != nil && !seen[name] {
			seen[name] = true
			if found := c.cycle(start, next, path, seen); found != nil {
				return found
			}
		}
	}
	return nil
}

// restartDelay is how long after its end a unit is started again: 1 s doubling to 5 min.
func restartDelay(failures int) time.Duration {
	const first, most = time.Second, 5 * time.Minute
	if failures <= 1 {
		return first
	}
	return min(first<<min(failures-1, 16), most)
}

// SecretsOf lists the secrets of the host that a spec names.
func SecretsOf(s *v1alpha1.ContainerSpec) []string {
	if s == nil {
		return nil
	}
	var out []string
	for _, c := range s.Credentials {
		out = append(out, secretName(c))
	}
	for _, v := range s.Volumes {
		if v.Repository != nil && v.Repository.Secret != "" {
			out = append(out, v.Repository.Secret)
		}
	}
	return append(out, setupSecrets(s.Setup)...)
}
