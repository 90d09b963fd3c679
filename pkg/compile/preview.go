package compile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/preview"
	"tekton.host/pkg/resource"
)

// configure turns a preview into the machine that the fetched commit of its
// repository asks for. While that is not known, or asks for what it may not
// have, what is there of the object runs on as it is.
func (c *compiler) configure(u *unitOf) {
	base := u.Spec
	if base.Preview == nil {
		return
	}
	r := c.fetched(u)
	if r != nil && base.Preview.Spec.UsesNix() {
		r = c.built(u, r)
	}
	if r != nil {
		machine, problems := c.machineAt(u, base, r)
		if len(problems) == 0 {
			u.Spec, u.effective, u.revision = machine, machine, r
			return
		}
		u.note(v1alpha1.ConditionConfigured, v1alpha1.ConditionFalse, "ConfigInvalid", "commit %.12s: %s", r.Commit, strings.Join(problems, "; "))
	}
	u.waiting = true
	waiting := *base
	waiting.Volumes, waiting.Databases = nil, nil // which it will have is not known
	if last := c.lastMachine(u); last != nil {
		waiting = *last
		waiting.Enabled, waiting.Reason, waiting.Paused, waiting.SleepAfter = base.Enabled, base.Reason, base.Paused, base.SleepAfter
	}
	u.Spec, u.effective = &waiting, &waiting
}

// machineAt is what a preview asks for at a revision, and what of that it may
// not have. Host names that its source may not use are left out: those of a
// commit that serves as well, once the source was narrowed.
func (c *compiler) machineAt(u *unitOf, base *v1alpha1.ContainerSpec, r *preview.Revision) (*v1alpha1.ContainerSpec, []string) {
	machine, problems := preview.Machine(base, &c.Host, *r)
	texts := make([]string, 0, len(problems))
	for _, p := range problems {
		texts = append(texts, p.Error())
	}
	if machine == nil {
		return nil, texts
	}
	machine.Routes = slices.DeleteFunc(machine.Routes, func(route v1alpha1.Route) bool {
		refused := !c.mayServe(u.Record.Source, route.Host)
		if refused {
			texts = append(texts, fmt.Sprintf("%s: host name %s is not one that its source may use (allow.domains)", base.Preview.Spec.Config, route.Host))
		}
		return refused
	})
	return machine, slices.Compact(texts)
}

// mayServe reports whether a source's objects may have routes on a host name.
func (c *compiler) mayServe(source, host string) bool {
	for _, s := range c.Host.Sources {
		if s.Name == source && s.Allow != nil {
			return slices.ContainsFunc(s.Allow.Domains, func(pattern string) bool { return v1alpha1.MatchHost(pattern, host) })
		}
	}
	return true
}

// revised is what an incarnation's spec was at its revision.
func (c *compiler) revised(u *unitOf, s *v1alpha1.ContainerSpec, r *preview.Revision) *v1alpha1.ContainerSpec {
	if s.Preview == nil || r == nil {
		return s
	}
	if machine, _ := c.machineAt(u, s, r); machine != nil {
		return machine
	}
	return s
}

// lastMachine is what the newest incarnation of a preview was made for; nil: there is none.
func (c *compiler) lastMachine(u *unitOf) *v1alpha1.ContainerSpec {
	records := c.Claims.Instances[u.Record.UID]
	if len(records) == 0 {
		return nil
	}
	last, o := records[len(records)-1], v1alpha1.New(u.Record.Kind)
	if o == nil || json.Unmarshal(last.Object, o) != nil {
		return nil
	}
	return c.revised(u, o.Machine(), last.Revision)
}

// configureGone says which data a preview that is being deleted has.
func (c *compiler) configureGone(u *unitOf) {
	if u.Spec == nil || u.Spec.Preview == nil {
		return
	}
	last := c.lastMachine(u)
	if last == nil {
		c.unsure = true
		return
	}
	with := *last
	with.Databases = u.Spec.Databases // also one that its configuration has dropped
	u.Spec = &with
}

// keepUnused leaves the database of a preview whose commit asks for none. No access
// leads to it; a later commit finds it as it was, and its policy decides when the
// preview goes.
func (c *compiler) keepUnused(u *unitOf) {
	if u.Spec.Preview == nil {
		return
	}
	for _, d := range u.Spec.Preview.Machine().Databases {
		name := c.Naming.DatabaseName(u.Record.Kind, u.Record.Name, d.Name)
		have, there, _ := c.Observed.Get(resource.ID{Kind: resource.KindDatabase, Name: name})
		if c.wanted(resource.KindDatabase, name) {
			continue
		}
		for _, k := range []resource.Kind{resource.KindDatabase, resource.KindRole, resource.KindPassword} {
			c.hold(resource.ID{Kind: k, Name: name})
		}
		if !there || have.Owner != u.Record.UID {
			continue
		}
		u.Unused = append(u.Unused, d)
		u.note(v1alpha1.ConditionDatabaseReady, v1alpha1.ConditionTrue, "Unused",
			"the commit asks for no database; the one that there is stays, out of its reach, until a later commit asks for one or the preview is deleted (deletionPolicy %s)", d.DeletionPolicy)
	}
}
