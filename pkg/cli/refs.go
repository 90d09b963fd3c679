package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/spec"
)

// kindNamed returns the one of kinds that a word means: "container", "containers", "Container".
func kindNamed(word string, kinds []string) (string, bool) {
	for _, kind := range kinds {
		one := strings.ToLower(kind)
		many := one + "s"
		if stem, ok := strings.CutSuffix(one, "y"); ok && !strings.HasSuffix(stem, "a") {
			many = stem + "ies"
		}
		if w := strings.ToLower(word); w == one || w == many {
			return kind, true
		}
	}
	return "", false
}

// parseRefs reads "KIND/NAME...", "KIND NAME..." and "NAME...". A Ref without a
// kind means any, one without a name means all.
func parseRefs(args []string) ([]v1alpha1.Ref, error) {
	if len(args) == 0 {
		return nil, nil
	}
	if kind, ok := kindNamed(args[0], v1alpha1.Kinds()); ok {
		if len(args) == 1 {
			return []v1alpha1.Ref{{Kind: kind}}, nil
		}
		var refs []v1alpha1.Ref
		for _, name := range args[1:] {
			if strings.Contains(name, "/") {
				return nil, usage("%q names a kind, and so does %q before it", name, args[0])
			}
			refs = append(refs, v1alpha1.Ref{Kind: kind, Name: name})
		}
		return refs, nil
	}
	var refs []v1alpha1.Ref
	for _, arg := range args {
		word, name, ok := strings.Cut(arg, "/")
		if !ok {
			refs = append(refs, v1alpha1.Ref{Name: arg})
			continue
		}
		kind, known := kindNamed(word, v1alpha1.Kinds())
		if !known {
			return nil, noKind(word, v1alpha1.Kinds())
		}
		if name == "" {
			return nil, usage("%q lacks a name", arg)
		}
		refs = append(refs, v1alpha1.Ref{Kind: kind, Name: name})
	}
	return refs, nil
}

func refOf(item v1alpha1.Item) v1alpha1.Ref {
	return item.Ref()
}

func matches(want v1alpha1.Ref, item v1alpha1.Item) bool {
	return (want.Kind == "" || want.Kind == item.Kind) && (want.Name == "" || want.Name == item.Metadata.Name)
}

// selection is which objects a command is about.
type selection struct {
	refs   []v1alpha1.Ref // none: all
	labels labels.Selector
}

func parseSelection(args []string, selector string) (selection, error) {
	refs, err := parseRefs(args)
	if err != nil {
		return selection{}, err
	}
	s, err := labels.Parse(selector)
	if err != nil {
		return selection{}, usage("selector %q: %v", selector, err)
	}
	return selection{refs, s}, nil
}

func (s selection) has(item v1alpha1.Item) bool {
	named := len(s.refs) == 0 || slices.ContainsFunc(s.refs, func(r v1alpha1.Ref) bool { return matches(r, item) })
	return named && s.labels.Matches(labels.Set(item.Metadata.Labels))
}

// pick returns the selected items. A name that no item has is an error.
func (s selection) pick(items []v1alpha1.Item) ([]v1alpha1.Item, error) {
	picked := []v1alpha1.Item{}
	for _, item := range items {
		if s.has(item) {
			picked = append(picked, item)
		}
	}
	for _, r := range s.refs {
		if r.Name != "" && !slices.ContainsFunc(items, func(i v1alpha1.Item) bool { return matches(r, i) }) {
			return picked, missing(r, items)
		}
	}
	return picked, nil
}

func missing(r v1alpha1.Ref, items []v1alpha1.Item) error {
	name := r.Name
	if r.Kind != "" {
		name = r.String()
	}
	var there []string
	for _, i := range items {
		if r.Kind == "" || i.Kind == r.Kind {
			there = append(there, i.Metadata.Name)
		}
	}
	return notFound("tekton get lists what there is", "there is no object %s%s", name, meant(r.Name, there))
}

// meant asks whether a word is a misspelling; "" when it is of none.
func meant(word string, words []string) string {
	if near := spec.Nearest(word, words); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// noKind says that a word is no kind.
func noKind(word string, kinds []string) error {
	if hint := meant(word, kinds); hint != "" {
		return usage("there is no kind %q%s", word, hint)
	}
	return usage("there is no kind %q; kinds are %s", word, strings.Join(kinds, ", "))
}

// objects returns the selected objects of the daemon.
func (a *app) objects(ctx context.Context, s selection) ([]v1alpha1.Item, error) {
	items, err := a.client.List(ctx)
	if err != nil {
		return nil, err
	}
	return s.pick(items)
}

// resolve returns the references with their kinds; the daemon knows those of bare names.
func (a *app) resolve(ctx context.Context, args []string) ([]v1alpha1.Ref, error) {
	refs, err := parseRefs(args)
	if err != nil {
		return nil, err
	}
	var items []v1alpha1.Item
	for i, r := range refs {
		switch {
		case r.Name == "":
			return nil, usage("name the objects: %s/NAME", strings.ToLower(r.Kind))
		case r.Kind != "":
			continue
		case items == nil:
			if items, err = a.client.List(ctx); err != nil {
				return nil, err
			}
		}
		at := slices.IndexFunc(items, func(it v1alpha1.Item) bool { return matches(r, it) })
		if at < 0 {
			return nil, missing(r, items)
		}
		refs[i] = refOf(items[at])
	}
	return refs, nil
}

// resolveOne is resolve for commands about one object.
func (a *app) resolveOne(ctx context.Context, args ...string) (v1alpha1.Ref, error) {
	refs, err := a.resolve(ctx, args)
	if err != nil {
		return v1alpha1.Ref{}, err
	}
	if len(refs) != 1 {
		return v1alpha1.Ref{}, usage("name one object, not %d", len(refs))
	}
	return refs[0], nil
}

func plural(n int, one string) string {
	if n == 1 {
		return fmt.Sprintf("1 %s", one)
	}
	return fmt.Sprintf("%d %ss", n, one)
}
