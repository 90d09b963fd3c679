package compile

import (
	"fmt"
	"slices"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

// checkData refuses data that another source left under the same kind and name,
// and what is left of which the ledger does not say whose it is.
func (c *compiler) checkData(u *unitOf) {
	for _, key := range c.dataKeys(u) {
		d, found := c.Claims.Data[key]
		kind, name, _ := strings.Cut(key, "/")
		have, _, _ := c.Observed.Get(resource.ID{Kind: resource.Kind(kind), Name: name})
		switch {
		case !found && have.Owner == resource.RetainedOwner:
			u.keep = true
			u.note(v1alpha1.ConditionReady, v1alpha1.ConditionFalse, "DataConflict",
				"%s was left by an object that the ledger has lost, so it may be of another source. Restore the ledger, delete the data (tekton data delete %s) or choose another name", key, key)
		case found && d.Source != u.Record.Source:
			u.noStart = true
			u.note(v1alpha1.ConditionReady, v1alpha1.ConditionFalse, "DataConflict",
				"%s was left by %s/%s of source %q; this object comes from source %q. %s (tekton data delete %s) or choose another name",
				key, d.Kind, d.Name, d.Source, u.Record.Source, c.takeBack(d.Source), key)
		}
	}
}

// takeBack begins the ways out for an object whose name has data of another
// source. One that is no longer configured may be the object's own by a former name.
func (c *compiler) takeBack(source string) string {
	if slices.ContainsFunc(c.Host.Sources, func(s v1alpha1.SourceConfig) bool { return s.Name == source }) {
		return "Delete the data"
	}
	return fmt.Sprintf("No source is named %q now: where that is only a former name of this one, give it that name again in the Host. Else delete the data", source)
}

// dataKeys are the ledger's names (without prefix) of the object's data.
func (c *compiler) dataKeys(u *unitOf) []string {
	var keys []string
	for _, v := range volumesOf(u.Spec) {
		keys = append(keys, "volume/"+resource.VolumeName(u.Record.Kind, u.Record.Name, v.Name))
	}
	for _, d := range u.Spec.Databases {
		keys = append(keys, "database/"+c.Naming.DatabaseName(u.Record.Kind, u.Record.Name, d.Name))
	}
	return keys
}

// RootVolume is the name of the volume that holds the root of a storePath or
// flake. No user volume can have it: it is no DNS label.
const RootVolume = ".root"

// volumesOf are the declared volumes and, where the root outlives machines, the root.
func volumesOf(s *v1alpha1.ContainerSpec) []v1alpha1.Volume {
	if !s.KeepsRoot() {
		return s.Volumes
	}
	return append([]v1alpha1.Volume{{Name: RootVolume, Path: "/", DeletionPolicy: string(resource.DeleteData)}}, s.Volumes...)
}

// claimsTrash reports whether the ledger still has claims on data that has gone
// with the object.
func (c *compiler) claimsTrash(u *unitOf) bool {
	return u.Spec != nil && slices.ContainsFunc(c.dataKeys(u), func(key string) bool {
		_, claimed := c.Claims.Data[key]
		return claimed && c.trashed[key] && c.dataGone(key)
	})
}

// markTrashed notes the data that goes with the object: its claims go, too.
func (c *compiler) markTrashed(u *unitOf) {
	for _, key := range c.dataKeys(u) {
		if d, claimed := c.Claims.Data[key]; claimed && d.Source != u.Record.Source {
			continue // it was refused that data
		}
		kind, name, _ := strings.Cut(key, "/")
		if c.out.Desired.Policies[resource.ID{Kind: resource.Kind(kind), Name: name}] == resource.DeleteData {
			c.trashed[key] = true
		}
	}
}

// policies says what happens to the object's data when it goes.
func (c *compiler) policies(u *unitOf) {
	for _, v := range volumesOf(u.Spec) {
		id := resource.ID{Kind: resource.KindVolume, Name: resource.VolumeName(u.Record.Kind, u.Record.Name, v.Name)}
		c.out.Desired.Policies[id] = resource.DeletionPolicy(v.DeletionPolicy)
	}
	for _, d := range u.Spec.Databases {
		id := resource.ID{Kind: resource.KindDatabase, Name: c.Naming.DatabaseName(u.Record.Kind, u.Record.Name, d.Name)}
		c.out.Desired.Policies[id] = resource.DeletionPolicy(d.DeletionPolicy)
	}
}

// Data is one volume or database that a spec declares.
type Data struct {
	Kind   resource.Kind
	Name   string
	Policy resource.DeletionPolicy
}

// DataOf lists the data of an object; nil, which cannot be read, has none.
func DataOf(o v1alpha1.Object) []Data {
	if o == nil || o.Machine() == nil {
		return nil
	}
	s := o.Machine()
	var out []Data
	for _, v := range volumesOf(s) {
		out = append(out, Data{resource.KindVolume, v.Name, resource.DeletionPolicy(v.DeletionPolicy)})
	}
	for _, d := range s.Databases {
		out = append(out, Data{resource.KindDatabase, d.Name, resource.DeletionPolicy(d.DeletionPolicy)})
	}
	return out
}

// TakesData reports whether deleting the object takes data with it. What
// cannot be read may.
func TakesData(o v1alpha1.Object) bool {
	return o == nil || slices.ContainsFunc(DataOf(o), func(d Data) bool { return d.Policy == resource.DeleteData })
}
