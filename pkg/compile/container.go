package compile

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

// maxContainerName is what NixOS allows: an interface "ve-NAME" has 15 characters.
const maxContainerName = 11

// containerName chooses the name of an object's NixOS container: its own where
// that fits and is free, else a beginning of it with a hash. It is kept in the
// instance's record from then on.
func (c *compiler) containerName(o ObjectRecord) string {
	full := o.Name
	if c.Naming.Instance != "" {
		full = c.Naming.Instance + "-" + full
	}
	if c.containers == nil {
		c.containers = map[string]string{}
		for uid, records := range c.Claims.Instances {
			for _, r := range records {
				if r.Container != "" {
					c.containers[r.Container] = uid
				}
			}
		}
	}
	name := full
	for salt := ""; ; salt += "'" {
		if by, taken := c.containers[name]; len(name) <= maxContainerName && (!taken || by == o.UID) {
			c.containers[name] = o.UID
			return name
		}
		sum := sha256.Sum256([]byte(full + salt))
		tail := "-" + hex.EncodeToString(sum[:2])
		name = strings.TrimRight(full[:min(len(full), maxContainerName-len(tail))], "-") + tail
	}
}

// updateInPlace changes the one incarnation. What has never answered is
// nothing to go back to.
func (c *compiler) updateInPlace(u *unitOf, i *Incarnation, want string) {
	u.Target = i
	c.confirm(u)
	next := *i
	if next.Previous == nil {
		next.Previous = &Previous{Fingerprint: i.Fingerprint, Flake: i.Flake, StorePath: i.StorePath, Object: i.Object}
	}
	next.Fingerprint, next.Object = want, u.Record.Object
	next.builtFor(u)
	u.Target, u.Update = &next, StrategyInPlace
}

// confirm forgets what a container was before, once the present one has answered.
func (c *compiler) confirm(u *unitOf) {
	if u.Target.Previous == nil {
		return
	}
	u.Update = StrategyInPlace
	unit, running, _ := observed[resource.Unit](c, u.Target.Machine)
	answer, answered, _ := observed[resource.Answer](c, u.Target.Machine)
	if running && answered && unit.Fingerprint == u.Target.Fingerprint && answer.Boot == unit.Boot {
		confirmed := *u.Target
		confirmed.Previous = nil
		u.Target, u.Update = &confirmed, ""
	}
}

// before is the incarnation as it was until an update in place; nil when there
// is none to go back to.
func (u *unitOf) before(i *Incarnation) *Incarnation {
	if i.Previous == nil || u.object.NoWayBack {
		return nil
	}
	was := *i
	p := i.Previous
	was.Fingerprint, was.Flake, was.StorePath, was.Object, was.Previous = p.Fingerprint, p.Flake, p.StorePath, p.Object, nil
	return &was
}

// runtimeChanged reports whether an object that has a machine asks for another
// runtime.
func (c *compiler) runtimeChanged(u *unitOf) bool {
	container := u.Spec.Runtime == v1alpha1.RuntimeNixOSContainer
	changed := slices.ContainsFunc(c.Claims.Instances[u.Record.UID], func(r InstanceRecord) bool { return (r.Container != "") != container })
	if changed {
		u.note(v1alpha1.ConditionSpecValid, v1alpha1.ConditionFalse, "Immutable",
			"spec.runtime cannot be changed to %s while there is a machine: nothing is done; change it back, or delete the object and apply it again (retained volumes are kept)", u.Spec.Runtime)
	}
	return changed
}
