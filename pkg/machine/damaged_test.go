package machine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tekton.host/pkg/resource"
)

// TestDamagedRecord: what cannot be read of one machine makes that one unknown.
// Others are seen as they are.
func TestDamagedRecord(t *testing.T) {
	r := newRig(t)
	damaged, other := r.instance(1, "serve"), r.instance(2, "serve")
	unit := r.run(damaged)
	r.run(other)
	path := filepath.Join(r.layout.Machines(), damaged.Name, "instance.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, damage := range map[string]func() error{
		"empty":         func() error { return os.WriteFile(path, nil, 0o600) },
		"half":          func() error { return os.WriteFile(path, good[:len(good)/2], 0o600) },
		"of other type": func() error { return os.WriteFile(path, []byte(`{"mark": 7}`), 0o600) },
		"a directory":   func() error { return os.Mkdir(path, 0o700) },
	} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		o := resource.Observed(r.Observe(r.ctx))
		if err := o.Unknown(resource.ID{Kind: resource.KindInstance, Name: damaged.Name}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: of the machine is said: %v", what, err)
		}
		if u := r.unit(damaged.Name); !u.Running || u.Boot != unit.Boot {
			t.Errorf("%s: its unit is %+v, was %+v", what, u, unit)
		}
		if got, _, present := observed[resource.Instance](r, other.Name); !present || !got.Equal(other) {
			t.Errorf("%s: the other machine is seen as %+v", what, got)
		}
		if err := r.put(damaged, damaged.Name); err == nil {
			t.Errorf("%s: it was overwritten", what)
		}
	}
	// Moved away, as the error says: it is written anew, and the machine runs on.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, _, present := observed[resource.Instance](r, damaged.Name); present {
		t.Error("an instance without a record is seen")
	}
	r.mustPut(damaged, damaged.Name)
	if u := r.unit(damaged.Name); !u.Running || u.Boot != unit.Boot {
		t.Errorf("repaired: its unit is %+v, was %+v", u, unit)
	}
	if got, _, present := observed[resource.Instance](r, damaged.Name); !present || !got.Equal(damaged) {
		t.Errorf("repaired: %+v", got)
	}
}

// TestDamagedStatus: a status that nobody understands, with a supervisor that
// lives, makes that unit unknown and no other.
func TestDamagedStatus(t *testing.T) {
	r := newRig(t)
	damaged, other := r.instance(1, "serve"), r.instance(2, "serve")
	r.run(damaged)
	r.run(other)
	path := filepath.Join(r.layout.Machines(), damaged.Name, "status.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r.writeFile(path, `{"version": 99}`, 0o600)
	o := resource.Observed(r.Observe(r.ctx))
	if err := o.Unknown(resource.ID{Kind: resource.KindUnit, Name: damaged.Name}); err == nil || !strings.Contains(err.Error(), damaged.Name) {
		t.Errorf("of the unit is said: %v", err)
	}
	if u := r.unit(other.Name); !u.Running {
		t.Errorf("the other unit is seen as %+v", u)
	}
	r.writeFile(path, string(good), 0o600)
	if u := r.unit(damaged.Name); !u.Running {
		t.Errorf("repaired: %+v", u)
	}
}
