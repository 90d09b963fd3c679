package nixos

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"tekton.host/pkg/host"
	"tekton.host/pkg/machine/nixos/conf"
	"tekton.host/pkg/resource"
)

// Paths of NixOS. The zero value is the real ones.
type Paths struct {
	Conf     string // /etc/nixos-containers
	Roots    string // /var/lib/nixos-containers
	Profiles string // /nix/var/nix/profiles/per-container
	GCRoots  string // /nix/var/nix/gcroots/per-container
}

func (p Paths) withDefaults() Paths {
	for at, path := range map[*string]string{
		&p.Conf: conf.Dir, &p.Roots: "/var/lib/nixos-containers",
		&p.Profiles: "/nix/var/nix/profiles/per-container", &p.GCRoots: "/nix/var/nix/gcroots/per-container",
	} {
		if *at == "" {
			*at = path
		}
	}
	return p
}

func (p Paths) conf(name string) string { return filepath.Join(p.Conf, name+".conf") }

// root is NixOS's directory of a container's root: a link, where it is ours.
func (p Paths) root(name string) string { return filepath.Join(p.Roots, name) }

// owner returns the mark in a container's configuration file; found is false
// when there is none.
func (p Paths) owner(name string) (mark string, found bool, err error) {
	b, err := os.ReadFile(p.conf(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	c, err := conf.Parse(string(b))
	return c.Mark, true, err
}

// claim checks that a container's name is free or ours.
func (p Paths) claim(name, mark string) (ours bool, err error) {
	have, found, err := p.owner(name)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", p.conf(name), err)
	}
	if found && have != mark {
		whose := "without a mark of tekton"
		if have != "" {
			whose = "with the mark " + have
		}
		return false, resource.Taken("Conflict", fmt.Errorf(
			"%s is there, %s: container %s is left alone; give the object another name, or see `tekton adopt %s`", p.conf(name), whose, name, name))
	}
	if found {
		return true, nil
	}
	for _, path := range []string{p.root(name), filepath.Join(p.Profiles, name, profileLink)} {
		if _, err := os.Lstat(path); err == nil {
			return false, resource.Taken("Conflict", fmt.Errorf(
				"%s is there without a %s: it belongs to a container that is gone; it is left alone, remove it or give the object another name", path, p.conf(name)))
		}
	}
	return false, nil
}

// place writes what a container is: first the file that says whose it is.
func (p Paths) place(c Container) error {
	if _, err := p.claim(c.Name, c.Conf.Mark); err != nil {
		return err
	}
	text, err := c.Conf.Render()
	if err != nil {
		return resource.Terminal("InvalidMachine", fmt.Errorf("container %s: %w", c.Name, err))
	}
	if err := os.MkdirAll(p.Conf, 0o755); err != nil {
		return err
	}
	if have, err := os.ReadFile(p.conf(c.Name)); err != nil || string(have) != text {
		if err := p.writeConf(c.Name, text); err != nil {
			return fmt.Errorf("write %s: %w", p.conf(c.Name), err)
		}
	}
	if err := p.linkRoot(c); err != nil {
		return err
	}
	// What the unit makes itself, with the modes that it gives them.
	for _, dir := range []string{p.Profiles, p.GCRoots} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(dir, c.Name), 0o755); err != nil {
			return err
		}
	}
	return setProfile(filepath.Join(p.Profiles, c.Name), c.System)
}

// fresh is where a configuration file is written before it takes its place. The
// directory is not ours alone, so what a crash leaves there must be found by name.
func (p Paths) fresh(name string) string { return filepath.Join(p.Conf, "."+name+".conf.tekton-new") }

func (p Paths) writeConf(name, text string) error {
	f, err := os.OpenFile(p.fresh(name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(p.fresh(name), p.conf(name)); err != nil {
		return err
	}
	return host.SyncDir(p.Conf)
}

// linkRoot makes NixOS's directory of the container a link to its root.
func (p Paths) linkRoot(c Container) error {
	if err := os.MkdirAll(p.Roots, 0o700); err != nil {
		return err
	}
	link := p.root(c.Name)
	have, err := os.Readlink(link)
	if err == nil && have == c.Root {
		return nil
	}
	if err == nil {
		if err := os.Remove(link); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return resource.Taken("Conflict", fmt.Errorf("%s is there and is no link: it is left alone; move it away", link))
	}
	return os.Symlink(c.Root, link)
}

// profileLink is the profile that the unit boots.
const profileLink = "system"

// setProfile does what `nix-env -p DIR/system --set SYSTEM` does, without a
// process and by one rename: a new generation, unless it is the present one.
// The one before stays for a rollback. A container may have written to the
// directory: nothing in it is followed.
func setProfile(dir, system string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	generations, err := generationsIn(root)
	if err != nil {
		return err
	}
	current, _ := root.Readlink(profileLink)
	if target, err := root.Readlink(current); err == nil && target == system && slices.Contains(generations, current) {
		return nil
	}
	last := 0
	if len(generations) > 0 {
		last = number(generations[len(generations)-1])
	}
	next := generation(last + 1)
	const fresh = profileLink + ".tekton-new"
	if err := root.RemoveAll(fresh); err != nil {
		return err
	}
	if err := root.Symlink(system, next); err != nil {
		return err
	}
	if err := root.Symlink(next, fresh); err != nil {
		return err
	}
	if err := root.Rename(fresh, profileLink); err != nil {
		return fmt.Errorf("set the profile %s: %w", filepath.Join(dir, profileLink), err)
	}
	for _, old := range generations {
		if old != current {
			if err := root.Remove(old); err != nil {
				return err
			}
		}
	}
	return host.SyncDir(dir)
}

func generation(n int) string { return profileLink + "-" + strconv.Itoa(n) + "-link" }

// number of a generation's link, 0 when it is none.
func number(link string) int {
	rest, _ := strings.CutPrefix(link, profileLink+"-")
	digits, _ := strings.CutSuffix(rest, "-link")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || generation(n) != link {
		return 0
	}
	return n
}

// generationsIn lists a profile's generations, oldest first.
func generationsIn(root *os.Root) ([]string, error) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if number(e.Name()) > 0 && e.Type()&fs.ModeSymlink != 0 {
			out = append(out, e.Name())
		}
	}
	slices.SortFunc(out, func(a, b string) int { return number(a) - number(b) })
	return out, nil
}

// remove takes a container away; the file that says whose it is goes last.
func (p Paths) remove(name, mark string) error {
	have, found, err := p.owner(name)
	if err != nil || found && have != mark {
		return err // somebody else's by now: nothing of it is ours
	}
	if err := os.Remove(p.fresh(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !found {
		return nil
	}
	for _, dir := range []string{p.Profiles, p.GCRoots} {
		if err := removeBelow(dir, name); err != nil {
			return err
		}
	}
	// The link alone: the root is a volume.
	if link := p.root(name); isLink(link) {
		if err := os.Remove(link); err != nil {
			return err
		}
	}
	if err := os.Remove(p.conf(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return host.SyncDir(p.Conf)
}

// removeBelow removes what a container may have written to; nothing is followed.
func removeBelow(dir, name string) error {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll(name)
}

func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

// deliver writes the files that a start needs: those on tmpfs, and the root's
// resolv.conf, which the machine's root may have planted a link at.
func deliver(dir string, c Container) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, f := range c.Files {
		path := filepath.Join(dir, f.Name)
		if err := os.WriteFile(path, f.Data, 0o400); err != nil {
			return err
		}
		if err := os.Chown(path, c.Owner, c.Owner); err != nil {
			return err
		}
	}
	root, err := os.OpenRoot(c.Root)
	if err != nil {
		return err
	}
	defer root.Close()
	if c.Guard {
		if err := guard(root); err != nil {
			return err
		}
	}
	if c.Resolver == "" {
		return nil
	}
	return writeResolver(root, c.Resolver)
}

// guard makes the Guarded paths what the unit takes them for.
func guard(root *os.Root) error {
	for _, path := range Guarded {
		path = strings.TrimPrefix(path, "/")
		info, err := root.Lstat(path)
		isFile := filepath.Base(path) == "machine-id"
		switch {
		case errors.Is(err, fs.ErrNotExist) && isFile:
			err = root.WriteFile(path, nil, 0o644)
		case errors.Is(err, fs.ErrNotExist):
			err = root.Mkdir(path, 0o755)
		case err == nil && info.Mode().IsRegular() != isFile, err == nil && info.IsDir() == isFile:
			err = resource.Terminal("InvalidMachine", fmt.Errorf(
				"/%s in the root %s is a %s: the unit container@ would follow it on the host; put it right there", path, root.Name(), info.Mode().Type()))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func writeResolver(root *os.Root, nameserver string) error {
	const name = "etc/resolv.conf"
	if err := root.MkdirAll("etc", 0o755); err != nil {
		return err
	}
	if err := root.RemoveAll(name); err != nil {
		return err
	}
	return root.WriteFile(name, []byte("nameserver "+nameserver+"\n"), 0o644)
}
