package spec

import (
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"tekton.host/pkg/api/v1alpha1"
)

// document is what the decoder needs of every kind, the Host included.
type document interface {
	Validate(*v1alpha1.HostSpec) field.ErrorList
	Default(*v1alpha1.HostSpec)
}

// object is a kind that a source may hold.
type object interface {
	v1alpha1.Object
	document
	Needs() []v1alpha1.Need
}

// newObject makes an empty object of a kind that a source may hold; nil: there
// is no such kind.
func newObject(kind string) object {
	o, _ := v1alpha1.New(kind).(object)
	return o
}

// hostDocument lets the Host pass through the decoder: it is its own host.
type hostDocument struct{ *v1alpha1.Host }

func (h hostDocument) Default(*v1alpha1.HostSpec)                  { h.Host.Default() }
func (h hostDocument) Validate(*v1alpha1.HostSpec) field.ErrorList { return h.Host.Validate() }

// Kinds of the API, the Host included, sorted.
func Kinds() []string {
	kinds := append(v1alpha1.Kinds(), v1alpha1.KindHost)
	slices.Sort(kinds)
	return kinds
}

// typeOf returns the Go type of a kind of the API.
func typeOf(kind string) (reflect.Type, bool) {
	if kind == v1alpha1.KindHost {
		return reflect.TypeFor[v1alpha1.Host](), true
	}
	if o := newObject(kind); o != nil {
		return reflect.TypeOf(o).Elem(), true
	}
	return nil, false
}
