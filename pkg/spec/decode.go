package spec

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"tekton.host/pkg/api/v1alpha1"
)

// Options for Decode.
type Options struct {
	// Host gives defaults and what objects are checked against: a defaulted,
	// valid one. Optional: nil is a host with all defaults.
	Host *v1alpha1.HostSpec
	// Allow is what the source may ask for. Optional: nil admits everything.
	Allow *v1alpha1.Admission
}

// Decode reads the documents of a file: strictly decoded, defaulted, validated
// and admitted. Everything that is wrong is reported at once; a document with a
// problem is not among the objects. A problem without Kind and Name may
// concern any object that the file had before.
func Decode(file string, data []byte, opt Options) ([]Object, []Problem) {
	d := decoder{file: file, host: opt.Host}
	d.run(data, d.object)
	d.duplicateNames()
	d.admit(opt.Allow)
	return d.objects, d.problems
}

// admit drops what the source may not ask for.
func (d *decoder) admit(allow *v1alpha1.Admission) {
	d.objects = slices.DeleteFunc(d.objects, func(o Object) bool {
		refused := Admit(o, allow)
		d.problems = append(d.problems, refused...)
		return len(refused) > 0
	})
}

// DecodeHost reads the daemon's configuration: one document of kind Host.
func DecodeHost(file string, data []byte) (*v1alpha1.Host, []Problem) {
	d := decoder{file: file}
	d.run(data, d.hostObject)
	at := Position{File: file, Line: 1, Column: 1}
	switch {
	case len(d.problems) > 0:
		return nil, d.problems
	case len(d.hosts) == 0:
		return nil, []Problem{{Position: at, Reason: ReasonInvalidValue, Message: "holds no document; write apiVersion: " + v1alpha1.APIVersion + " and kind: Host, everything else has a default"}}
	case len(d.hosts) > 1:
		return nil, []Problem{{Position: at, Reason: ReasonDuplicateName, Message: "holds more than one Host; a daemon has one"}}
	}
	return d.hosts[0], nil
}

type decoder struct {
	file     string
	host     *v1alpha1.HostSpec
	objects  []Object
	hosts    []*v1alpha1.Host
	problems []Problem
}

// run hands each document of the file to one.
func (d *decoder) run(data []byte, one func(*walker, *yaml.Node)) {
	text, problem := readable(d.file, data)
	if problem != nil {
		d.problems = []Problem{*problem}
		return
	}
	count := 0
	for _, c := range split(text) {
		if c.blank() {
			continue
		}
		nodes, err := c.parse()
		for _, n := range nodes {
			n = n.Content[0]
			w := newWalker(d.file, c.line, n)
			if count++; count > MaxDocuments {
				w.problem(w.start, ReasonParseError, "", "the file has more than %d documents; split it into several files", MaxDocuments)
				d.keep(w.problems)
				d.limitProblems()
				return
			}
			if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!null" {
				one(w, n)
			}
		}
		if err != nil {
			d.keep([]Problem{c.syntaxProblem(d.file, err)})
		}
	}
	d.limitProblems()
}

func (d *decoder) keep(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	d.problems = append(d.problems, problems...)
}

func (d *decoder) limitProblems() {
	if more := len(d.problems) - MaxProblems; more > 0 {
		last := d.problems[MaxProblems]
		d.problems = append(d.problems[:MaxProblems:MaxProblems], Problem{Position: last.Position, Reason: last.Reason,
			Message: fmt.Sprintf("and %d more problems from here on", more)})
	}
}

// object decodes one document of a source.
func (d *decoder) object(w *walker, n *yaml.Node) {
	kind, ok := w.identify(n)
	if kind != "" {
		ok = w.knownKind(kind) && ok
	}
	if !ok {
		d.keep(w.problems)
		return
	}
	o := newObject(kind)
	d.decode(w, n, o, o)
	if len(w.problems) == 0 {
		d.objects = append(d.objects, Object{Object: o, Position: w.start, Digest: Digest(o), fields: &fields{w.where}})
	}
	d.keep(w.problems)
}

func (d *decoder) hostObject(w *walker, n *yaml.Node) {
	kind, ok := w.identify(n)
	if ok && kind != v1alpha1.KindHost {
		ok = w.problem(w.position("kind"), ReasonUnknownKind, "kind", "%q is not Host: this file configures the daemon; specs go into the directory of a source", kind)
	}
	if ok {
		h := &v1alpha1.Host{}
		d.decode(w, n, h, hostDocument{h})
		d.hosts = append(d.hosts, h)
	}
	d.keep(w.problems)
}

// decode fills target from the node, defaults it and checks it.
func (d *decoder) decode(w *walker, n *yaml.Node, target any, doc document) {
	t, _ := typeOf(w.kind)
	w.fill(n, t, target, func() field.ErrorList {
		doc.Default(d.host)
		return doc.Validate(d.host)
	})
}

// fill reads the node into target, a pointer to a t, and checks it. What cannot
// be used is left out, so that one problem does not hide the others.
func (w *walker) fill(n *yaml.Node, t reflect.Type, target any, check func() field.ErrorList) {
	if !w.value(cursor{node: n}, t) || w.stopped {
		return
	}
	strict, err := kjson.UnmarshalStrict(w.out.Bytes(), target)
	for _, e := range append(strict, err) {
		if e != nil {
			w.problem(w.start, ReasonInvalidValue, "", "%v", e)
			return
		}
	}
	for _, e := range check() {
		if !w.follows(e.Field) {
			w.problem(w.position(e.Field), ReasonInvalidValue, e.Field, "%s", message(e))
		}
	}
}

// DecodeFile reads a file whose one document is no object, but the fields of
// what target points to, as strictly and with the same positions. check
// defaults the target and says what is wrong with it.
func DecodeFile(file string, data []byte, target any, check func() field.ErrorList) []Problem {
	d, count := decoder{file: file}, 0
	d.run(data, func(w *walker, n *yaml.Node) {
		switch count++; count {
		case 1:
			w.fill(n, reflect.TypeOf(target).Elem(), target, check)
		case 2:
			w.problem(w.start, ReasonParseError, "", "the file has more than one document")
		}
		d.keep(w.problems)
	})
	if count == 0 && len(d.problems) == 0 {
		d.problems = []Problem{{Position: Position{File: file, Line: 1, Column: 1}, Reason: ReasonInvalidValue, Message: "holds no document"}}
	}
	return d.problems
}

// follows reports whether a problem with the field is already known, or may
// only be a consequence of one.
func (w *walker) follows(path string) bool {
	for known := range w.touched {
		if known == path || below(known, path) || below(path, known) {
			return true
		}
	}
	return false
}

// below reports whether path is a part of the field.
func below(field, path string) bool {
	rest, ok := strings.CutPrefix(path, field)
	return ok && (strings.HasPrefix(rest, ".") || strings.HasPrefix(rest, "["))
}

// message says what validation found, after the field's path.
func message(e *field.Error) string {
	switch e.Type {
	case field.ErrorTypeRequired:
		return "is required: " + e.Detail
	case field.ErrorTypeDuplicate:
		return fmt.Sprintf("%q is already used by %s", e.BadValue, e.Detail)
	case field.ErrorTypeInvalid:
		if text, ok := e.BadValue.(string); ok {
			return fmt.Sprintf("%q %s", text, e.Detail)
		}
		return fmt.Sprintf("%v %s", e.BadValue, e.Detail)
	}
	return e.Detail
}

// duplicateNames keeps the first object of a name.
func (d *decoder) duplicateNames() {
	first := map[string]Position{}
	var problems []Problem
	d.objects = slices.DeleteFunc(d.objects, func(o Object) bool {
		name := o.Meta().Name
		unique := o.UniqueName()
		at := o.FieldPosition("metadata.name")
		if was, used := first[unique]; used {
			problems = append(problems, Problem{Position: at, Field: "metadata.name", Reason: ReasonDuplicateName, Kind: o.Type().Kind, Name: name,
				Message: fmt.Sprintf("%q is already the name of the object at %s; names are unique across all kinds that run a machine, and among Repositories", name, was)})
			return true
		}
		first[unique] = at
		return false
	})
	d.keep(problems)
}
