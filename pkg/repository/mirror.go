package repository

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Commit is a commit of the repository.
type Commit struct {
	ID string
	At time.Time
}

// Ensure makes the mirror where there is none.
func (r *Repository) Ensure(ctx context.Context) error {
	err := os.Mkdir(r.o.Dir, 0o700)
	if err == nil && r.as != nil {
		err = os.Lchown(r.o.Dir, int(r.as.Uid), int(r.as.Gid))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the mirror: %w", err)
	}
	if r.begun("HEAD") && r.begun("config") {
		return nil
	}
	// Also where it was cut short: nothing is overwritten.
	if _, err := r.Run(ctx, Run{Args: []string{"init", "--quiet", "--bare", "--template=", "--initial-branch=none", r.o.Dir}, Anywhere: true}); err != nil {
		return fmt.Errorf("make the mirror: %w", err)
	}
	return nil
}

// begun reports whether a file of the repository has content.
func (r *Repository) begun(name string) bool {
	info, err := os.Lstat(filepath.Join(r.o.Dir, name))
	return err == nil && info.Size() > 0
}

// TooLarge reports whether a fetch was ended by the limit on the size of files.
// git only says that its program ended.
func (r *Repository) TooLarge() bool {
	return r.anyPack(func(size int64) bool { return size >= r.o.MaxSize })
}

// Interrupted reports whether a fetch that was ended has left something; or one
// is under way.
func (r *Repository) Interrupted() bool { return r.anyPack(func(int64) bool { return true }) }

// anyPack reports whether there is a half fetched pack for whose size f holds.
func (r *Repository) anyPack(f func(size int64) bool) bool {
	root, err := os.OpenRoot(r.o.Dir)
	if err != nil {
		return false
	}
	defer root.Close()
	packs, err := fs.Glob(root.FS(), "objects/pack/tmp_pack_*")
	return err == nil && slices.ContainsFunc(packs, func(name string) bool {
		info, err := root.Lstat(name)
		return err == nil && f(info.Size())
	})
}

// Ref reads a reference of the repository.
func (r *Repository) Ref(ctx context.Context, name string) (Commit, bool, error) {
	out, err := r.Git(ctx, "for-each-ref", "--format=%(refname) %(objecttype) %(objectname) %(committerdate:unix)", name)
	if err != nil {
		return Commit{}, false, fmt.Errorf("read the mirror: %w", err)
	}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 4 || f[0] != name || f[1] != "commit" {
			continue
		}
		seconds, err := strconv.ParseInt(f[3], 10, 64)
		return Commit{ID: f[2], At: time.Unix(seconds, 0)}, err == nil, err
	}
	return Commit{}, false, nil
}

// Unlock removes the locks of runs that were killed; a run dies with its daemon,
// but may be a moment behind, and removes its own.
func (r *Repository) Unlock() error {
	root, err := os.OpenRoot(r.o.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
		case d.IsDir() && path == "objects":
			return fs.SkipDir
		case strings.HasSuffix(path, ".lock") || path == "gc.pid":
			err = root.Remove(path)
		}
		if errors.Is(err, fs.ErrNotExist) && path != "." {
			return nil
		}
		return err
	})
}

// Prune removes what an interrupted fetch left. That it fails harms nothing now.
func (r *Repository) Prune(ctx context.Context) error {
	_, err := r.Git(ctx, "prune", "--expire=now")
	return err
}

// Tidy keeps the mirror from growing with each commit.
func (r *Repository) Tidy(ctx context.Context) error {
	_, err := r.Run(ctx, Run{Args: []string{"gc", "--auto", "--quiet"}, WriteMore: r.o.MaxSize})
	return err
}

// Damaged reports whether it itself is broken: git has looked and says so.
func (r *Repository) Damaged(ctx context.Context) bool {
	_, err := r.Git(ctx, "fsck", "--connectivity-only", "--no-dangling", "--no-progress")
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && exit.Exited() && exit.ExitCode() != notExecuted && exit.ExitCode() != notFound && ctx.Err() == nil
}

// Exit codes of prlimit where there is no git that it could become.
const (
	notExecuted = 126
	notFound    = 127
)

// Remove removes the mirror.
func (r *Repository) Remove() error {
	if err := os.RemoveAll(r.o.Dir); err != nil {
		return fmt.Errorf("remove the mirror: %w", err)
	}
	return nil
}
