package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"tekton.host/pkg/api/v1alpha1"
)

// Marshal writes an object, or a Host, as YAML that Decode reads.
func Marshal(obj any) ([]byte, error) {
	if o, ok := obj.(Object); ok {
		obj = o.Object
	}
	data, err := yaml.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("write %T as YAML: %w", obj, err)
	}
	return data, nil
}

// FromJSON restores an object that was stored as JSON after decoding. A field
// that this version does not know is an error: to drop it could drop a
// restriction. The caller then holds the object as it is.
func FromJSON(kind string, data []byte) (v1alpha1.Object, error) {
	o := newObject(kind)
	if o == nil {
		return nil, fmt.Errorf("restore a stored %s: this version of tekton knows only %s", kind, strings.Join(v1alpha1.Kinds(), ", "))
	}
	strict, err := kjson.UnmarshalStrict(data, o)
	if err := errors.Join(append(strict, err)...); err != nil {
		return nil, fmt.Errorf("restore a stored %s: %w", kind, err)
	}
	o.Default(nil)
	return o, nil
}

// Digest is the content hash of a defaulted object.
func Digest(o v1alpha1.Object) string {
	data, err := json.Marshal(o)
	if err != nil {
		panic(err) // the API's types always marshal
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
