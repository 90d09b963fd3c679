// Gen writes what is derived from the API's Go types: the JSON Schema of each
// kind and the field tables of its reference page, below specs, and the options
// of the NixOS module. Run it as
// "go run ./hack/gen" in the repository's root; with -check it writes nothing
// and exits 1 when a file is not up to date. Same types, same bytes.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
)

// kinds are those that have a schema and a page.
func kinds() map[string]reflect.Type {
	all := map[string]reflect.Type{v1alpha1.KindHost: reflect.TypeFor[v1alpha1.Host]()}
	for _, kind := range v1alpha1.Kinds() {
		all[kind] = reflect.TypeOf(v1alpha1.New(kind)).Elem()
	}
	return all
}

func main() {
	check := flag.Bool("check", false, "write nothing; exit 1 when a file is not up to date")
	flag.Parse()
	stale, err := run(".", *check)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
	for _, name := range stale {
		fmt.Fprintln(os.Stderr, name)
	}
	if *check && len(stale) > 0 {
		fmt.Fprintln(os.Stderr, "gen: not up to date; run: go run ./hack/gen")
		os.Exit(1)
	}
}

// run compares, and without check writes, the generated files of the
// repository at root. It returns the names of those that differed.
func run(root string, check bool) (stale []string, err error) {
	files, err := generate(root)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(root, name)
		old, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		if bytes.Equal(old, files[name]) {
			continue
		}
		stale = append(stale, name)
		if check {
			continue
		}
		if err := os.WriteFile(path, files[name], 0o644); err != nil {
			return nil, err
		}
	}
	return stale, nil
}

// generate returns the wanted content of each generated file.
func generate(root string) (map[string][]byte, error) {
	docs, err := readDocs(filepath.Join(root, "pkg/api/v1alpha1"))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for kind, t := range kinds() {
		schema, err := schemaOf(kind, t, docs)
		if err != nil {
			return nil, fmt.Errorf("schema of %s: %w", kind, err)
		}
		name := "specs/" + strings.ToLower(kind)
		files[name+".schema.json"] = schema
		page, err := os.ReadFile(filepath.Join(root, name+".md"))
		if err != nil {
			return nil, err
		}
		if files[name+".md"], err = withTables(page, tables(kind, t, docs)); err != nil {
			return nil, fmt.Errorf("%s.md: %w", name, err)
		}
	}
	files["nix/host-options.nix"], err = nixOptions(docs)
	return files, err
}
