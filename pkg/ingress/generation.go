package ingress

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"

	"github.com/google/renameio/v2"

	"tekton.host/pkg/resource"
)

const (
	manifestVersion = 1
	manifestFile    = "manifest.json"
	mainFile        = "Caddyfile"
	importedFile    = "tekton.caddy" // instead of mainFile, for the host's own Caddy
	keepGenerations = 2
)

// entry is one accepted route.
type entry struct {
	Name     string         `json:"name"`
	Owner    string         `json:"owner"`
	Instance string         `json:"instance,omitempty"`
	Route    resource.Route `json:"route"`
}

// generation is one whole configuration of Caddy as data.
type generation struct {
	Version      int              `json:"version"`
	Installation string           `json:"installation"`
	Caddy        string           `json:"caddy"`              // the version that it was written for
	Importer     string           `json:"importer,omitempty"` // the Caddyfile of the host's own Caddy; "": ours
	AdminSocket  string           `json:"adminSocket"`
	Storage      string           `json:"storage"`
	ProxyName    string           `json:"proxyName"`
	ProxyOwner   string           `json:"proxyOwner"`
	Proxy        resource.Proxy   `json:"proxy"`
	Certificates []certificate    `json:"certificates,omitempty"`
	Routes       map[string]entry `json:"routes"` // by resource name

	name string // of the directory; "" when not written
}

func (g *generation) clone() *generation {
	c := *g
	c.name = ""
	c.Routes = maps.Clone(g.Routes)
	c.Certificates = slices.Clone(g.Certificates)
	return &c
}

func (g *generation) equal(o *generation) bool {
	a, b := *g, *o
	a.name, b.name = "", ""
	return reflect.DeepEqual(a, b)
}

// sorted returns the routes by name.
func (g *generation) sorted() []entry {
	return slices.SortedFunc(maps.Values(g.Routes), func(a, b entry) int { return cmp.Compare(a.Name, b.Name) })
}

// ports returns those that Caddy listens on.
func (g *generation) ports() []int {
	if len(g.secureHosts()) == 0 {
		return []int{g.Proxy.HTTPPort}
	}
	return []int{g.Proxy.HTTPPort, g.Proxy.HTTPSPort}
}

// store keeps the generations below the service's directory.
type store struct{ dir string }

func (s store) link() string        { return filepath.Join(s.dir, "current") }
func (s store) generations() string { return filepath.Join(s.dir, "generations") }

// current returns the generation that the link names; nil when there is none
// or what is there is damaged, which costs no more than to write it again.
func (s store) current(cached *generation) (*generation, error) {
	target, err := os.Readlink(s.link())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	name := filepath.Base(target)
	if cached != nil && cached.name == name {
		return cached, nil
	}
	b, err := os.ReadFile(filepath.Join(s.generations(), name, manifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	g := &generation{name: name}
	if json.Unmarshal(b, g) != nil || g.Version != manifestVersion {
		return nil, nil
	}
	if g.Routes == nil {
		g.Routes = map[string]entry{}
	}
	return g, nil
}

// intact reports whether the files of g are what g renders to.
func (s store) intact(g *generation) bool {
	files, err := g.files()
	if err != nil || g.name == "" {
		return false
	}
	for name, want := range files {
		have, err := os.ReadFile(filepath.Join(s.generations(), g.name, name))
		if err != nil || string(have) != want {
			return false
		}
	}
	return true
}

// save writes g as the newest generation, moves the link to it and removes old ones.
func (s store) save(g *generation) error {
	files, err := g.files()
	if err != nil {
		return err
	}
	name, err := s.next()
	if err != nil {
		return err
	}
	dir := filepath.Join(s.generations(), name)
	if err := writeAll(dir, s.link(), files); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	if err := renameio.Symlink(filepath.Join("generations", name), s.link()); err != nil {
		return errors.Join(fmt.Errorf("make %s the current configuration of Caddy: %w", dir, err), os.RemoveAll(dir))
	}
	g.name = name
	return nil
}

// writeAll makes the files in dir. Those that are the same in the generation
// before become links to it: to create a file costs thirty times as much.
func writeAll(dir, before string, files map[string]string) error {
	if err := os.MkdirAll(filepath.Join(dir, "sites"), 0o755); err != nil {
		return err
	}
	for name, content := range files {
		old := filepath.Join(before, name)
		if have, err := os.ReadFile(old); err == nil && string(have) == content && os.Link(old, filepath.Join(dir, name)) == nil {
			continue
		}
		// Neither renamed nor synced: the directory gets into use by the link only.
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// next returns the name of a generation that comes after all that are there.
func (s store) next() (string, error) {
	numbers, err := s.list()
	if err != nil {
		return "", err
	}
	return generationName(1 + slices.Max(append(numbers, 0))), nil
}

func generationName(n int) string { return fmt.Sprintf("%06d", n) }

func (s store) list() ([]int, error) {
	entries, err := os.ReadDir(s.generations())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var numbers []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// prune keeps the current generation and the one before.
func (s store) prune(installation string) error {
	numbers, err := s.list()
	if err != nil {
		return err
	}
	for _, n := range numbers[:max(0, len(numbers)-keepGenerations)] {
		if err := s.removeGeneration(generationName(n), installation); err != nil {
			return fmt.Errorf("remove an old configuration of Caddy: %w", err)
		}
	}
	return nil
}
