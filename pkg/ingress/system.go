package ingress

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"tekton.host/pkg/resource"
)

// System is the host's own Caddy, which somebody else configures and runs. One
// line in its Caddyfile imports our sites.
//
//   - Only the whole of the operator's file is ever loaded, as a reload by the
//     operator would, with our next sites in the place of that line. Relative
//     imports are made absolute for that, and it is checked first that the
//     result means the same as the file itself.
//   - What the line imports only ever is what Caddy has accepted together with
//     the operator's file, so that a reload by hand, or a start, has it too.
//   - Nothing of the operator's is written to, and Caddy is neither started nor stopped.
type System struct {
	Caddyfile string // required: the operator's
	Network   string // required: of the admin endpoint, "tcp" or "unix"
	Admin     string // required: its address
}

func (s *System) dial() *admin {
	host := s.Admin
	if s.Network == "unix" {
		host = " " // Caddy expects an empty one on a socket; Go sends that for one that cannot be
	}
	return newAdmin(s.Network, s.Admin, host)
}

// lookEvery at what the host's own Caddy runs: others load into it as a matter
// of course, and nobody tells.
const lookEvery = 30 * time.Second

// watch tells of changes of the operator's file, and that it is time to look.
func (s *System) watch(ctx context.Context, notify func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", s.Caddyfile, err)
	}
	defer w.Close()
	// The directory: editors replace the file.
	if err := w.Add(filepath.Dir(s.Caddyfile)); err != nil {
		return fmt.Errorf("watch %s: %w", s.Caddyfile, err)
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-w.Events:
		case <-w.Errors: // events were lost
		}
		notify()
	}
}

func (s *System) down() error {
	return fmt.Errorf("the host's own Caddy does not answer at its admin endpoint %s; start it (systemctl start caddy), or correct Host.spec.ingress.admin", s.Admin)
}

func (s *System) broken(err error) error {
	return resource.Taken(reasonCaddyfile, fmt.Errorf("%s is refused also without anything of tekton's in it; what is served goes on as it is, and nothing can change until the file is mended: %w", s.Caddyfile, err))
}

// importLine is what the operator's file has to have.
func (d *Driver) importLine() string {
	return "import " + filepath.Join(d.store.link(), "*.caddy")
}

// whole is the operator's file as the operator would load it.
func (s *System) whole() (string, error) {
	name, err := quote(s.Caddyfile)
	return "import " + name + "\n", err
}

// with is the operator's file with text in the place of the import line; the
// file alone where it has no such line.
func (s *System) with(line, text string) (string, error) {
	file, err := os.ReadFile(s.Caddyfile)
	if err != nil {
		return "", err
	}
	out, _ := compose(string(file), filepath.Dir(s.Caddyfile), line, text, matchesFiles)
	return out, nil
}

func (s *System) imports(line string) (bool, error) {
	file, err := os.ReadFile(s.Caddyfile)
	if err != nil {
		return false, resource.Taken(reasonCaddyfile, fmt.Errorf("read the Caddyfile of the host's own Caddy: %w; correct Host.spec.ingress.caddyfile", err))
	}
	_, found := compose(string(file), "/", line, "", matchesFiles)
	return found, nil
}

func matchesFiles(pattern string) bool {
	files, _ := filepath.Glob(pattern) // fails for a bad pattern only
	return len(files) > 0
}

var relativeImport = regexp.MustCompile(`^(\s*import\s+)([^\s/"` + "`" + `{#][^\s{]*)(.*)$`)

// compose puts text in the place of a line and makes relative imports of files
// absolute, as the result is read from another place. found: the line is there.
func compose(file, dir, line, text string, isFile func(string) bool) (out string, found bool) {
	var b strings.Builder
	for l := range strings.Lines(file) {
		code, _, _ := strings.Cut(strings.TrimSpace(l), " #")
		if !found && strings.Join(strings.Fields(code), " ") == line {
			found = true
			b.WriteString(text + "\n")
			continue
		}
		l = strings.TrimSuffix(l, "\n")
		if m := relativeImport.FindStringSubmatch(l); m != nil {
			path := filepath.Join(dir, m[2])
			if !strings.Contains(file, "("+m[2]+")") && isFile(path) { // else the name of a snippet
				l = m[1] + path + m[3]
			}
		}
		b.WriteString(l + "\n")
	}
	return b.String(), found
}

// adoptSystem makes sure that the host's own Caddy takes our sites, and ends
// one of ours that was there before.
func (b *batch) adoptSystem(ctx context.Context) (err error) {
	if b.now.found { // it has the ports
		if err := b.opts.Supervisor.Stop(ctx, b.store.dir, stopTimeout); err != nil {
			return fmt.Errorf("stop the managed Caddy: %w", err)
		}
	}
	if !b.now.up {
		b.errs[b.proxy] = resource.Taken(reasonDown, b.down())
		return nil
	}
	imported, err := b.opts.System.imports(b.importLine())
	if err != nil {
		return err
	}
	if !imported {
		b.unimported = resource.Taken(reasonImport, fmt.Errorf("%s does not import tekton's sites; add this line outside of all braces, after the global options: %s", b.opts.System.Caddyfile, b.importLine()))
		b.errs[b.proxy] = b.unimported
	}
	// The program on the PATH may be another than the one that runs.
	b.next.Caddy = "2.6"
	newer, err := b.admin.accepts(ctx, "http://tekton.invalid {\n\treverse_proxy 127.0.0.1:1 {\n\t\tstream_close_delay 1s\n\t}\n}\n")
	if err != nil {
		return err
	}
	if newer {
		b.next.Caddy = "2.7"
	}
	if b.now.current != nil && b.now.current.Importer == b.next.Importer {
		return nil
	}
	// What the line imports has to be there for the first load.
	if err := b.save(b.next.with(nil)); err != nil {
		return err
	}
	b.now.current, b.now.serving = b.cached, false
	return nil
}

// faithful makes sure that the operator's file is read right: with our present
// sites in the place of the line it has to mean what it means by itself.
func (b *batch) faithful(ctx context.Context) error {
	if b.opts.System == nil {
		return nil
	}
	whole, err := b.opts.System.whole()
	if err != nil {
		return err
	}
	want, err := b.admin.adapt(ctx, whole)
	if isRefusal(err) {
		return nil // whose fault it is shows when ours are tried
	}
	if err != nil {
		return err
	}
	text, err := b.text(b.now.current)
	if err != nil {
		return err
	}
	got, err := b.admin.adapt(ctx, text)
	if err != nil && !isRefusal(err) {
		return err
	}
	if err != nil || !sameJSON(got, want) {
		return resource.Taken(reasonCaddyfile, fmt.Errorf("%s cannot be read with certainty: imports in it other than of absolute paths or snippets of the same file have to be written with absolute paths", b.opts.System.Caddyfile))
	}
	return nil
}

// leaveSystem takes our sites out of what the host's own Caddy serves.
func (b *batch) leaveSystem(ctx context.Context) error {
	if !b.now.up || b.now.current == nil {
		return nil // it will start without
	}
	text, err := b.opts.System.with(b.importLine(), "")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = b.admin.load(ctx, text)
	if isRefusal(err) {
		return b.opts.System.broken(err)
	}
	return err
}
