package git

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

// References of the mirror: what was fetched, and what is in effect.
const (
	refFetched = "refs/tekton/fetched"
	refGood    = "refs/tekton/good"
)

// commit is a commit of the mirror.
type commit struct {
	id string
	at time.Time
}

// head asks the remote which commit the branch is at.
func (r *runner) head(ctx context.Context) (string, error) {
	ref := "refs/heads/" + r.Branch
	if err := r.ensure(ctx); err != nil {
		return "", err
	}
	out, err := r.git(ctx, "ls-remote", "--exit-code", "--", r.URL, ref)
	exit, failed := errors.AsType[*exec.ExitError](err)
	if none := failed && exit.ExitCode() == 2; err != nil && !none {
		return "", fmt.Errorf("ask %s: %w; what is in effect stays; next step: check git.url, git.auth and the network", r.URL, err)
	}
	for line := range strings.Lines(out) { // also names that end like this one
		if id, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t"); name == ref {
			return id, nil
		}
	}
	return "", fmt.Errorf("the repository %s has no branch %s; what is in effect stays; next step: push the branch, or correct git.branch", r.URL, r.Branch)
}

// ensure makes the mirror where there is none.
func (r *runner) ensure(ctx context.Context) error {
	err := os.Mkdir(r.Dir, 0o700)
	if err == nil && r.as != nil {
		err = os.Lchown(r.Dir, int(r.as.Uid), int(r.as.Gid))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the mirror: %w", err)
	}
	if r.begun("HEAD") && r.begun("config") {
		return nil
	}
	// Also where it was cut short: nothing is overwritten.
	if _, err := r.start(ctx, run{args: []string{"init", "--quiet", "--bare", "--template=", "--initial-branch=none", r.Dir}, anywhere: true}); err != nil {
		return fmt.Errorf("make the mirror: %w", err)
	}
	return nil
}

// begun reports whether a file of the mirror has content.
func (r *runner) begun(name string) bool {
	info, err := os.Lstat(filepath.Join(r.Dir, name))
	return err == nil && info.Size() > 0
}

// fetch brings the branch's commit, without its history.
func (r *runner) fetch(ctx context.Context, head string) (commit, error) {
	if c, found, err := r.ref(ctx, refFetched); err == nil && found && c.id == head {
		return c, nil
	}
	_, err := r.git(ctx, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance",
		"--", r.URL, "+refs/heads/"+r.Branch+":"+refFetched)
	if err != nil {
		if r.tooLarge() {
			err = fmt.Errorf("it brings more than %d bytes (git.maxSize): %w", r.MaxSize, err)
		}
		r.prune(ctx)
		return commit{}, fmt.Errorf("fetch %s: %w; what is in effect stays", r.URL, err)
	}
	c, found, err := r.ref(ctx, refFetched)
	if err == nil && !found {
		err = errors.New("fetched, and it is not there")
	}
	return c, err
}

// tooLarge reports whether a fetch was ended by the limit on the size of files.
// git only says that its program ended.
func (r *runner) tooLarge() bool {
	root, err := os.OpenRoot(r.Dir)
	if err != nil {
		return false
	}
	defer root.Close()
	packs, err := fs.Glob(root.FS(), "objects/pack/tmp_pack_*")
	return err == nil && slices.ContainsFunc(packs, func(name string) bool {
		info, err := root.Lstat(name)
		return err == nil && info.Size() >= r.MaxSize
	})
}

// ref reads a reference of the mirror.
func (r *runner) ref(ctx context.Context, name string) (commit, bool, error) {
	out, err := r.git(ctx, "for-each-ref", "--format=%(refname) %(objecttype) %(objectname) %(committerdate:unix)", name)
	if err != nil {
		return commit{}, false, fmt.Errorf("read the mirror: %w", err)
	}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 4 || f[0] != name || f[1] != "commit" {
			continue
		}
		seconds, err := strconv.ParseInt(f[3], 10, 64)
		return commit{id: f[2], at: time.Unix(seconds, 0)}, err == nil, err
	}
	return commit{}, false, nil
}

// accept makes a commit the one to begin with after a restart.
func (r *runner) accept(ctx context.Context, c commit) error {
	if _, err := r.git(ctx, "update-ref", "--no-deref", refGood, c.id); err != nil {
		return fmt.Errorf("remember the commit in effect: %w", err)
	}
	return nil
}

// verify demands the signature of an allowed signer.
func (r *runner) verify(ctx context.Context, id string) error {
	_, err := r.git(ctx, "verify-commit", "--", id)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		said := "it is not signed"
		if failed, ok := errors.AsType[*Error](err); ok && failed.Said != "" {
			said = failed.Said
		}
		return &Rejection{Commit: id, Err: fmt.Errorf("it has no signature of an allowed signer (%s): %s; next step: sign it, or add the signer to the file", r.AllowedSignersFile, said)}
	}
	return err
}

// recall returns the commit that was in effect when the mirror was last used.
func (r *runner) recall(ctx context.Context) (c commit, found bool, err error) {
	if _, err := os.Lstat(r.Dir); errors.Is(err, fs.ErrNotExist) {
		return commit{}, false, nil
	}
	if err := r.unlock(); err != nil {
		return commit{}, false, err
	}
	r.prune(ctx)
	return r.ref(ctx, refGood)
}

// unlock removes the locks of runs that were killed; a run dies with its daemon.
func (r *runner) unlock() error {
	root, err := os.OpenRoot(r.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path == "objects":
			return fs.SkipDir
		case strings.HasSuffix(path, ".lock") || path == "gc.pid":
			return root.Remove(path)
		}
		return nil
	})
}

// prune removes what an interrupted fetch left. That it fails harms nothing now.
func (r *runner) prune(ctx context.Context) {
	if _, err := r.git(ctx, "prune", "--expire=now"); err != nil {
		r.Log.V(1).Info("tidy the mirror", "error", err.Error())
	}
}

// tidy keeps the mirror from growing with each commit.
func (r *runner) tidy(ctx context.Context) {
	// It makes one pack of the commit in effect and the one before.
	if _, err := r.start(ctx, run{args: []string{"gc", "--auto", "--quiet"}, writeMore: r.MaxSize}); err != nil {
		r.Log.V(1).Info("tidy the mirror", "error", err.Error())
	}
}

// damaged reports whether the mirror itself is broken: git has looked and says so.
func (r *runner) damaged(ctx context.Context) bool {
	_, err := r.git(ctx, "fsck", "--connectivity-only", "--no-dangling", "--no-progress")
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && exit.Exited() && exit.ExitCode() != notExecuted && exit.ExitCode() != notFound && ctx.Err() == nil
}

// Exit codes of prlimit where there is no git that it could become.
const (
	notExecuted = 126
	notFound    = 127
)

func (r *runner) remove() error {
	if err := os.RemoveAll(r.Dir); err != nil {
		return fmt.Errorf("remove the damaged mirror: %w", err)
	}
	return nil
}
