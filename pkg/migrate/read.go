package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
)

// Where the scripts and NixOS keep what they know of a container.
const (
	agentsDir   = "var/lib/claude-agents"
	previewsDir = "var/lib/preview-deploys"
	secretsFile = "var/secrets/preview.env"
	confDir     = "etc/nixos-containers"
	rootsDir    = "var/lib/nixos-containers"
	profilesDir = "nix/var/nix/profiles/per-container"
	runningDir  = "run/systemd/machines"
)

// Options of Read.
type Options struct {
	Root fs.FS // required: the host's file tree
	// Domain of previews. Optional: that of the scripts' configuration.
	Domain string
	// StateDir of tekton, where the data goes. Optional: /var/lib/tekton
	StateDir string
}

// Note is what is said of one thing, and the file and line that it is about.
type Note struct{ At, Text string }

// Container is one that was found.
type Container struct {
	Name string // its own
	At   string // what tells of it
	// Object is what it becomes; nil: nothing, Left says why.
	Object *v1alpha1.Container
	Taken  []Note   // what is taken over
	Left   []Note   // what is not
	Steps  []string // what is to be done before it may start, in this order
	// database of the host's own PostgreSQL that holds its rows.
	database string
}

func (c *Container) take(at, format string, args ...any) {
	c.Taken = append(c.Taken, Note{at, fmt.Sprintf(format, args...)})
}

func (c *Container) leave(at, format string, args ...any) {
	c.Left = append(c.Left, Note{at, fmt.Sprintf(format, args...)})
}

// Read finds all containers, sorted by name.
func Read(o Options) ([]Container, error) {
	r := &reader{Options: o}
	r.StateDir = cmp.Or(r.StateDir, "/var/lib/tekton")
	if r.Domain == "" {
		r.Domain = r.configuredDomain()
	}
	for _, read := range []func() error{r.previews, r.agents, r.others} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(r.found, func(a, b Container) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.At, b.At)) })
	return r.found, nil
}

type reader struct {
	Options
	found []Container
}

// list names the regular files of a directory; one that is not there has none.
func (r *reader) list(dir string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(r.Root, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list /%s: %w", dir, err)
	}
	return entries, nil
}

// known reports whether a container was found by its tracking file.
func (r *reader) known(name string) (at string, ok bool) {
	i := slices.IndexFunc(r.found, func(c Container) bool { return c.Name == name })
	if i < 0 {
		return "", false
	}
	return r.found[i].At, true
}

// tracking reads a tracking file: slot, two addresses and, of a preview,
// repository and branch.
func (r *reader) tracking(file string) ([]string, error) {
	data, err := fs.ReadFile(r.Root, file)
	if err != nil {
		return nil, fmt.Errorf("read tracking file: %w", err)
	}
	return strings.Fields(string(data)), nil
}

// tracked takes over every container that dir has a tracking file of, as take says.
func (r *reader) tracked(dir string, take func(c *Container, file string, fields []string)) error {
	entries, err := r.list(dir)
	for _, e := range entries {
		if !tracks(e) {
			continue
		}
		file := path.Join(dir, e.Name())
		fields, err := r.tracking(file)
		if err != nil {
			return err
		}
		c := r.begin(e.Name(), file)
		if c.Object != nil {
			r.address(c, file, fields)
		}
		if c.Object != nil {
			take(c, file, fields)
		}
		r.end(c)
	}
	return err
}

// agents are those of agent.sh.
func (r *reader) agents() error {
	return r.tracked(agentsDir, func(c *Container, _ string, _ []string) {
		if creds := path.Join(rootsDir, c.Name, "mnt/claude-creds"); r.exists(creds) {
			c.leave("/"+creds, "the credentials in the container's root come with its data, readable by all in it; give the machine a credential in their stead (spec.credentials)")
		}
	})
}

// tracks reports whether an entry of the scripts' directories is a tracking file.
func tracks(e fs.DirEntry) bool {
	ext := path.Ext(e.Name())
	return e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") && ext != ".meta" && ext != ".sha" && ext != ".type" && ext != ".old"
}

func (r *reader) exists(file string) bool {
	_, err := fs.Lstat(r.Root, file)
	return err == nil
}

// address: a machine of tekton's has one of its own.
func (r *reader) address(c *Container, file string, fields []string) {
	if len(fields) < 3 {
		c.leave("/"+file+":1", "the tracking file is damaged: expected slot and two addresses, it says %q", strings.Join(fields, " "))
		return
	}
	c.leave("/"+file+":1", "address %s: tekton gives the machine another one; other machines find it as %s.tekton.internal over network.links", fields[2], c.Object.Metadata.Name)
}

// configuredDomain is that of preview.sh.
func (r *reader) configuredDomain() string {
	const fallback = "preview.example.com" // the script's own
	data, err := fs.ReadFile(r.Root, secretsFile)
	if err != nil {
		return fallback
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "PREVIEW_DOMAIN="); ok {
			return cmp.Or(strings.Trim(value, `"'`), fallback)
		}
	}
	return fallback
}
