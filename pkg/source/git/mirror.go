package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"tekton.host/pkg/repository"
)

// runner is the source's mirror while git is run on it.
type runner struct {
	*Source
	*repository.Repository
}

func (s *Source) newRunner() (*runner, error) {
	r, err := repository.Open(repository.Options{
		URL: s.URL, Dir: s.Dir, RunDir: s.RunDir, User: s.User, MaxSize: s.MaxSize, Timeout: s.Timeout,
		SSHKeyFile: s.SSHKeyFile, KnownHostsFile: s.KnownHostsFile, TokenFile: s.TokenFile, Username: s.Username,
		AllowedSignersFile: s.AllowedSignersFile,
	})
	return &runner{s, r}, err
}

// tidied tells that tidying the mirror failed, which harms nothing now.
func (r *runner) tidied(err error) {
	if err != nil {
		r.Log.V(1).Info("tidy the mirror", "error", err.Error())
	}
}

// References of the mirror: what was fetched, and what is in effect.
const (
	refFetched = "refs/tekton/fetched"
	refGood    = "refs/tekton/good"
)

// head asks the remote which commit the branch is at.
func (r *runner) head(ctx context.Context) (string, error) {
	ref := "refs/heads/" + r.Branch
	if err := r.Ensure(ctx); err != nil {
		return "", err
	}
	out, err := r.Git(ctx, "ls-remote", "--exit-code", "--", r.URL, ref)
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

// fetch brings the branch's commit, without its history.
func (r *runner) fetch(ctx context.Context, head string) (repository.Commit, error) {
	if c, found, err := r.Ref(ctx, refFetched); err == nil && found && c.ID == head {
		return c, nil
	}
	_, err := r.Git(ctx, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance",
		"--", r.URL, "+refs/heads/"+r.Branch+":"+refFetched)
	if err != nil {
		if r.TooLarge() {
			err = fmt.Errorf("it brings more than %d bytes (git.maxSize): %w", r.MaxSize, err)
		}
		r.tidied(r.Prune(ctx))
		return repository.Commit{}, fmt.Errorf("fetch %s: %w; what is in effect stays", r.URL, err)
	}
	c, found, err := r.Ref(ctx, refFetched)
	if err == nil && !found {
		err = errors.New("fetched, and it is not there")
	}
	return c, err
}

// accept makes a commit the one to begin with after a restart.
func (r *runner) accept(ctx context.Context, c repository.Commit) error {
	if _, err := r.Git(ctx, "update-ref", "--no-deref", refGood, c.ID); err != nil {
		return fmt.Errorf("remember the commit in effect: %w", err)
	}
	return nil
}

// verify demands the signature of an allowed signer.
func (r *runner) verify(ctx context.Context, id string) error {
	_, err := r.Git(ctx, "verify-commit", "--", id)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		said := "it is not signed"
		if failed, ok := errors.AsType[*repository.Error](err); ok && failed.Said != "" {
			said = failed.Said
		}
		return &Rejection{Commit: id, Err: fmt.Errorf("it has no signature of an allowed signer (%s): %s; next step: sign it, or add the signer to the file", r.AllowedSignersFile, said)}
	}
	return err
}

// recall returns the commit that was in effect when the mirror was last used.
func (r *runner) recall(ctx context.Context) (c repository.Commit, found bool, err error) {
	if _, err := os.Lstat(r.Dir); errors.Is(err, fs.ErrNotExist) {
		return repository.Commit{}, false, nil
	}
	if err := r.Unlock(); err != nil {
		return repository.Commit{}, false, err
	}
	r.tidied(r.Prune(ctx))
	return r.Ref(ctx, refGood)
}
