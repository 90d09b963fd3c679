package repository

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// unlimited size of files: what a bare repository has was limited when it was fetched.
const unlimited = 1 << 50

// Clone is a work tree with a repository of its own, for others to work in.
type Clone struct {
	// From is a bare repository of git's user that has Commit with its history.
	From   string
	Commit string
	// Branch is the full name that the commit has at the remote: of refs/heads/…
	// the clone has the branch, of anything else a detached head.
	Branch string
	// URL of the remote, without a credential.
	URL string
	// Dir is made; nothing may be there. git's user must be able to come there.
	Dir string
	// RunDir and User are those of Options.
	RunDir, User string
	// UID and GID that all of it belongs to.
	UID, GID int
}

// Make makes the clone and writes it to disk. What it has made when it fails is
// the caller's to remove. No hook, filter or submodule of the repository has run.
func (c Clone) Make(ctx context.Context) error {
	r, err := Open(Options{URL: "file://" + c.From, Dir: filepath.Join(c.Dir, ".git"), RunDir: c.RunDir, User: c.User, MaxSize: unlimited, Timeout: time.Hour})
	if err != nil {
		return err
	}
	defer r.Close()
	if r.as != nil { // the directory was made by Open
		if err := os.Lchown(c.Dir, int(r.as.Uid), int(r.as.Gid)); err != nil {
			return err
		}
	}
	if err := c.fill(ctx, r); err != nil {
		return errors.Join(err, c.dropDamaged(ctx, r))
	}
	return c.give()
}

// fill brings the commit and checks it out.
func (c Clone) fill(ctx context.Context, r *Repository) error {
	const fetched = "refs/tekton/clone"
	runs := []Run{
		{Args: []string{"init", "--quiet", "--template=", "--initial-branch=none", c.Dir}, Anywhere: true},
		{Args: []string{"fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance", "--", r.o.URL, c.Commit + ":" + fetched}},
		{Args: []string{"config", "remote.origin.url", c.URL}},
		{Args: []string{"config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"}},
	}
	if branch, ok := strings.CutPrefix(c.Branch, "refs/heads/"); ok {
		runs = append(runs,
			Run{Args: []string{"update-ref", "refs/remotes/origin/" + branch, c.Commit}},
			Run{Args: []string{"update-ref", c.Branch, c.Commit}},
			Run{Args: []string{"symbolic-ref", "HEAD", c.Branch}},
			Run{Args: []string{"config", "branch." + branch + ".remote", "origin"}},
			Run{Args: []string{"config", "branch." + branch + ".merge", c.Branch}})
	} else {
		runs = append(runs, Run{Args: []string{"update-ref", "--no-deref", "HEAD", c.Commit}})
	}
	runs = append(runs,
		Run{Args: []string{"update-ref", "--no-deref", "-d", fetched}},
		Run{Args: []string{"reset", "--quiet", "--hard", "--no-recurse-submodules"}, WorkTree: c.Dir})
	for _, x := range runs {
		if _, err := r.Run(ctx, x); err != nil {
			return fmt.Errorf("clone %s at %.12s: %w", c.URL, c.Commit, err)
		}
	}
	return nil
}

// dropDamaged removes a bare repository that is damaged: it is then seen to be
// missing, and fetched anew.
func (c Clone) dropDamaged(ctx context.Context, r *Repository) error {
	from := *r
	from.o.Dir = c.From
	if !from.Damaged(ctx) {
		return nil
	}
	lock, err := OpenLock(c.From)
	if err != nil {
		return err
	}
	defer lock.Close()
	if !lock.Alone() {
		return nil // who works on it finds out
	}
	return errors.Join(errors.New("the host's copy is damaged, and is fetched anew"), from.Remove())
}

// give hands everything to its owner, the top last, and writes it to disk.
func (c Clone) give() error {
	root, err := os.OpenRoot(c.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if os.Geteuid() == 0 {
		var dirs []string
		err := fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			dirs = append(dirs, path)
			return nil
		})
		if err != nil {
			return err
		}
		for i := len(dirs) - 1; i >= 0; i-- {
			if err := root.Lchown(dirs[i], c.UID, c.GID); err != nil {
				return err
			}
		}
	}
	top, err := root.Open(".")
	if err != nil {
		return err
	}
	defer top.Close()
	if err := top.Chmod(0o755); err != nil {
		return err
	}
	return unix.Syncfs(int(top.Fd()))
}
