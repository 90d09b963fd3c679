package resource

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

// TestEqualSeesEveryField: comparisons that are written out must not forget a
// field that is added later.
func TestEqualSeesEveryField(t *testing.T) {
	for _, zero := range []Value{Endpoint{}, Record{}, Setup{}} {
		typ := reflect.TypeOf(zero)
		for i := range typ.NumField() {
			// How long and with what a setup works is no difference; neither is a database, unless both have one.
			if _, isSetup := zero.(Setup); isSetup && slices.Contains([]string{"Deadline", "Limits", "Run", "Database"}, typ.Field(i).Name) {
				continue
			}
			changed := reflect.New(typ).Elem()
			set(t, changed.Field(i))
			if v := changed.Interface().(Value); v.Equal(zero) || zero.Equal(v) || !v.Equal(v) {
				t.Errorf("%s: a difference in %s is not seen", typ.Name(), typ.Field(i).Name)
			}
		}
	}
}

// TestEqualDatabase: another database of the same name is another setup, whether
// it is still to be seeded is not.
func TestEqualDatabase(t *testing.T) {
	with := func(oid uint32, seed string) Setup {
		return Setup{Database: &SetupDatabase{Name: "x", OID: oid, Seed: seed}}
	}
	if with(1, "").Equal(with(2, "")) || !with(1, "").Equal(with(1, "seed.service")) || !with(1, "").Equal(Setup{}) {
		t.Error("not by the database's OID")
	}
}

// set gives a field a value other than its zero value.
func set(t *testing.T, f reflect.Value) {
	t.Helper()
	switch f.Kind() {
	case reflect.String:
		f.SetString("x")
	case reflect.Bool:
		f.SetBool(true)
	case reflect.Int, reflect.Int64:
		f.SetInt(1)
	case reflect.Slice:
		f.Set(reflect.MakeSlice(f.Type(), 1, 1))
	case reflect.Pointer:
		f.Set(reflect.New(f.Type().Elem()))
	case reflect.Struct: // netip.Addr
		f.Set(reflect.ValueOf(netip.IPv4Unspecified()))
	default:
		t.Fatalf("no other value known for %s", f.Type())
	}
}
