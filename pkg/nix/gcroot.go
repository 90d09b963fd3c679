package nix

import (
	"context"
	"fmt"
	"os"
	"strings"

	"tekton.host/pkg/resource"
)

// RootDriver manages the kind gcroot: what a machine runs on out of the store.
// The root is named UID:MACHINE.
type RootDriver struct{ roots Roots }

var _ resource.Driver = (*RootDriver)(nil)

// NewRootDriver returns the driver of an installation. It touches nothing.
func NewRootDriver(installation string) *RootDriver {
	return &RootDriver{NewRoots(installation)}
}

// Name of the driver.
func (d *RootDriver) Name() string { return "gcroot" }

// Kinds that the driver manages.
func (d *RootDriver) Kinds() []resource.Kind { return []resource.Kind{resource.KindGCRoot} }

// Observe lists the roots of machines; those of builds are not its.
func (d *RootDriver) Observe(context.Context) map[resource.Kind]resource.Domain {
	roots, err := d.roots.List()
	if err != nil {
		return map[resource.Kind]resource.Domain{resource.KindGCRoot: resource.Unknown(err)}
	}
	out := resource.Known()
	for name, target := range roots {
		if owner, machine, ok := strings.Cut(name, ":"); ok {
			r := resource.New(owner, machine, machine, resource.GCRoot{Target: target})
			out.Items[r.ID] = r
		}
	}
	return map[resource.Kind]resource.Domain{resource.KindGCRoot: out}
}

// Apply runs the steps one after the other.
func (d *RootDriver) Apply(ctx context.Context, steps []resource.Step) []error {
	errs := make([]error, len(steps))
	for i, s := range steps {
		errs[i] = d.apply(ctx, s)
	}
	return errs
}

func (d *RootDriver) apply(ctx context.Context, s resource.Step) error {
	r := s.Resource
	v, ok := r.Value.(resource.GCRoot)
	name := r.Owner + ":" + r.Name
	switch {
	case !ok:
		return resource.Terminal("Unsupported", fmt.Errorf("%s: not a garbage collector root", s))
	case s.Verb == resource.Delete:
		return d.roots.Remove(name)
	case !strings.HasPrefix(v.Target, storeDir+"/"):
		return d.roots.PutLink(ctx, name, v.Target)
	}
	if err := d.roots.Put(ctx, name, v.Target); err != nil {
		return err
	}
	if _, err := os.Lstat(v.Target); err != nil {
		return resource.Because("StorePathMissing", fmt.Errorf("the system of %s is not in this host's store: %w; build it here, or bring it with: nix copy", r.Name, err))
	}
	return nil
}

// Watch waits: only tekton changes these links, and what somebody does all the
// same is repaired on resync.
func (d *RootDriver) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}
