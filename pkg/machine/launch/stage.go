package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/machine/handover"
	"tekton.host/pkg/resource"
)

// storeDir is the Nix store.
const storeDir = "/nix/store"

// stage is the tree in the launcher's namespace that nspawn starts from. All
// paths are relative to the machine's directory but root and the binds.
type stage struct {
	opts  Options
	rec   Record
	ids   mapper
	root  string          // absolute
	binds []resource.Bind // Source absolute, in the stage
}

func (s *stage) build() error {
	if err := os.Mkdir(filepath.Join(StageDir, "root"), 0o755); err != nil {
		return err
	}
	// The first process is world-readable and needs no mapping.
	if err := s.bindPlain(s.opts.Init, handover.InitPath); err != nil {
		return err
	}
	i := s.rec.Instance
	if i.Login != nil {
		// Mapped: sshd wants authorized keys to be the machine's root's.
		if err := s.bind(resource.Bind{Source: KeysDir, Target: handover.KeysDir, ReadOnly: true}, false); err != nil {
			return err
		}
	}
	var err error
	switch {
	case i.System.Host:
		err = s.hostRoot()
	case i.System.RootFS != "":
		err = s.rootfsRoot()
	default:
		err = s.storeRoot()
	}
	if err != nil {
		return err
	}
	for _, v := range i.Volumes {
		if v.Target == "/" {
			continue
		}
		dir, err := VolumePath(s.opts.Volumes, v.Source)
		if err != nil {
			return err
		}
		if err := s.bind(resource.Bind{Source: dir, Target: v.Target, ReadOnly: v.ReadOnly}, false); err != nil {
			return err
		}
	}
	for _, m := range i.Mounts {
		if err := s.mount(m); err != nil {
			return err
		}
	}
	if s.rec.Instance.System.StorePath != "" {
		return s.makeTargets()
	}
	return nil
}

// hostRoot is an overlay over a skeleton, with the host's userland bound in.
func (s *stage) hostRoot() error {
	userland, err := detectHost()
	if err != nil {
		return err
	}
	lower := filepath.Join(StageDir, "lower")
	if err := os.Mkdir(lower, 0o755); err != nil {
		return err
	}
	if err := skeleton(lower, s.rec, userland); err != nil {
		return err
	}
	if err := s.overlay(lower); err != nil {
		return err
	}
	told := false
	for _, b := range userland.binds {
		b.ReadOnly = true
		err := s.bind(b, true)
		if Code(err) == ExitIDMap {
			// Unmapped, the host's programs belong to nobody inside: they are as
			// readable, and less privileged. Roots on overlay need this.
			if !told {
				fmt.Fprintf(os.Stderr, "tekton-launch: %s is on a file system (%s) that cannot map ids: its files belong to nobody in this machine\n", b.Source, FileSystem(b.Source))
				told = true
			}
			err = s.bindPlain(b.Source, b.Target)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rootfsRoot is an overlay over the idmapped rootfs.
func (s *stage) rootfsRoot() error {
	rootfs := s.rec.Instance.System.RootFS
	if _, err := os.Stat(rootfs); errors.Is(err, fs.ErrNotExist) {
		return fail(ExitSystem, "rootfs %s is not on this host", rootfs)
	}
	if info, err := os.Stat(filepath.Join(rootfs, "usr")); err != nil || !info.IsDir() {
		return fail(ExitSystem, "rootfs %s has no usr directory: it is not an unpacked root file system", rootfs)
	}
	from, err := s.openHost(rootfs)
	if err != nil {
		return err
	}
	defer from.Close()
	fd, err := s.ids.clone(from, false, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return err
	}
	lower := filepath.Join(StageDir, "lower")
	if err := os.Mkdir(lower, 0o755); err != nil {
		return err
	}
	if err := attach(fd, lower); err != nil {
		return err
	}
	return s.overlay(lower)
}

// overlay mounts the root from a lower layer and the machine's own upper one.
// Without index, metacopy, xino and redirect_dir the lower layer may change
// between two starts.
func (s *stage) overlay(lower string) error {
	base := int(s.rec.Instance.UIDBase)
	for _, d := range []string{UpperDir, WorkDir} {
		if err := os.Mkdir(d, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := os.Lchown(d, base, base); err != nil {
			return err
		}
	}
	// In the upper layer: what the image has in their place is covered, also
	// when somebody changes the image at this moment.
	if err := realDirs(UpperDir, base); err != nil {
		return err
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,index=off,metacopy=off,xino=off,redirect_dir=off", lower, UpperDir, WorkDir)
	if s.rec.Instance.Ephemeral {
		options += ",volatile" // no start reuses the layer: syncing it would be for nothing
	}
	if err := unix.Mount("overlay", filepath.Join(StageDir, "root"), "overlay", 0, options); err != nil {
		return fail(ExitSystem, "mount the root as overlay with its writable layer in %s (%s): %w; the state directory must be on a file system that can hold one (ext4, xfs, btrfs; not overlay)",
			s.opts.Dir, FileSystem("."), err)
	}
	return nil
}

// storeRoot is a plain directory, kept over closures where a volume is bound at
// "/", else the instance's own; ids on disk are the machine's.
func (s *stage) storeRoot() error {
	i := s.rec.Instance
	if _, err := os.Stat(i.System.StorePath + "/init"); err != nil && len(i.Command) == 0 {
		return fail(ExitSystem, "storePath: %w: is it a built NixOS system (config.system.build.toplevel)?", err)
	}
	dir, err := s.storeRootDir()
	if err != nil {
		return err
	}
	from, err := openPath(dir)
	if err != nil {
		return err
	}
	defer from.Close()
	fd, err := s.ids.clone(from, false, 0)
	if err != nil {
		return err
	}
	if err := attach(fd, filepath.Join(StageDir, "root")); err != nil {
		return err
	}
	return s.bind(resource.Bind{Source: storeDir, Target: storeDir, ReadOnly: true}, true)
}

func (s *stage) storeRootDir() (string, error) {
	for _, v := range s.rec.Instance.Volumes {
		if v.Target == "/" {
			return VolumePath(s.opts.Volumes, v.Source)
		}
	}
	if err := os.Mkdir(UpperDir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return UpperDir, nil
}

// openPath opens a path of the host for clone.
func openPath(path string) (*os.File, error) {
	f, err := os.OpenFile(path, unix.O_PATH, 0)
	if err != nil {
		return nil, fail(ExitSystem, "%w", err)
	}
	return f, nil
}

// openHost opens a path that the spec names. Where its source is limited to
// some directories, links in them do not lead out: who may write there does not
// choose what else of the host a machine gets.
func (s *stage) openHost(path string) (*os.File, error) {
	limits := s.rec.Instance.HostPaths
	if len(limits) == 0 {
		return openPath(path)
	}
	for _, dir := range limits {
		rest, err := filepath.Rel(dir, path)
		if err != nil || !filepath.IsLocal(rest) {
			continue
		}
		at, err := openPath(dir)
		if err != nil {
			return nil, err
		}
		defer at.Close()
		fd, err := unix.Openat2(int(at.Fd()), rest, &unix.OpenHow{
			Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
		})
		if errors.Is(err, unix.EXDEV) {
			return nil, fail(ExitSystem, "%s: a link leads out of %s, which is all that the source may use", path, dir)
		}
		if err != nil {
			return nil, fail(ExitSystem, "open %s: %w", path, err)
		}
		return os.NewFile(uintptr(fd), path), nil
	}
	return nil, fail(ExitSystem, "%s is in none of the directories that the source may use: %s", path, strings.Join(limits, ", "))
}

// mount stages a path of the host that the spec names, with what is mounted below it.
func (s *stage) mount(b resource.Bind) error {
	from, err := s.openHost(b.Source)
	if errors.Is(err, fs.ErrNotExist) {
		return fail(ExitSystem, "hostPath %s of spec.mounts is not on this host", b.Source)
	}
	if err != nil {
		return err
	}
	defer from.Close()
	return s.stageBind(s.ids, from, b, true, attributes(b))
}

// bind stages a clone of a host's path, idmapped and nodev, for nspawn to bind;
// nspawn resolves the target inside the root.
func (s *stage) bind(b resource.Bind, recursive bool) error {
	from, err := openPath(b.Source)
	if err != nil {
		return err
	}
	defer from.Close()
	return s.stageBind(s.ids, from, b, recursive, attributes(b))
}

func attributes(b resource.Bind) uint64 {
	if b.ReadOnly {
		return unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_RDONLY
	}
	return unix.MOUNT_ATTR_NODEV
}

// bindPlain stages something read-only without mapping its ids.
func (s *stage) bindPlain(source, target string) error {
	from, err := openPath(source)
	if err != nil {
		return err
	}
	defer from.Close()
	b := resource.Bind{Source: source, Target: target, ReadOnly: true}
	return s.stageBind(mapper{}, from, b, false, attributes(b)|unix.MOUNT_ATTR_NOSUID)
}

func (s *stage) stageBind(ids mapper, from *os.File, b resource.Bind, recursive bool, attrs uint64) error {
	info, err := from.Stat()
	if err != nil {
		return fail(ExitSystem, "bind at %s: %w", b.Target, err)
	}
	fd, err := ids.clone(from, recursive, attrs)
	if err != nil {
		return err
	}
	name := filepath.Join(StageDir, "bind"+strconv.Itoa(len(s.binds)))
	if info.IsDir() {
		err = os.Mkdir(name, 0o700)
	} else {
		err = os.WriteFile(name, nil, 0o600)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	if err := attach(fd, name); err != nil {
		return err
	}
	s.binds = append(s.binds, resource.Bind{Source: filepath.Join(s.opts.Dir, name), Target: b.Target, ReadOnly: b.ReadOnly})
	return nil
}

// storeRootDirs must exist in a storePath's root: on an idmapped mount nspawn,
// being the host's root, cannot make them.
var storeRootDirs = []string{"/usr", "/etc", "/proc", "/sys", "/dev", "/run", "/tmp", "/var", "/root", storeDir}

// usrLinks are what nspawn adds to a root that has only the directory in /usr: a
// kept one, in which somebody has made that. There it cannot do that either.
var usrLinks = []string{"bin", "lib", "lib64", "sbin"}

// makeTargets makes a storePath root's directories and bind targets in the
// unmapped directory, resolving every path inside it: what the machine planted
// there leads nowhere else.
func (s *stage) makeTargets() error {
	dir, err := s.storeRootDir()
	if err != nil {
		return err
	}
	if err := realDirs(dir, 0); err != nil {
		return err
	}
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(ExitSystem, "root of the store path: %w", err)
	}
	defer unix.Close(root)
	for _, d := range storeRootDirs {
		if err := makeInRoot(root, d, true); err != nil {
			return err
		}
	}
	for _, name := range usrLinks {
		if err := linkToUsr(root, name); err != nil {
			return err
		}
	}
	for _, b := range s.binds {
		if strings.HasPrefix(b.Target, "/run/") || strings.HasPrefix(b.Target, "/tmp/") {
			continue // nspawn's own tmpfs covers these
		}
		info, err := os.Stat(b.Source)
		if err != nil {
			return err
		}
		if err := makeInRoot(root, b.Target, info.IsDir()); err != nil {
			return err
		}
	}
	return nil
}
