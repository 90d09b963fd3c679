package webhook

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
	"tekton.host/pkg/forge"
	"tekton.host/pkg/internal/companion"
)

const (
	// checkTimeout of what is asked of the daemon and of forges.
	checkTimeout = time.Minute
	// daemonPatience with one that answers with an error.
	daemonPatience = 20 * time.Second
)

// Check reports what of the configuration cannot be used now: directories and
// secrets, and where those are well the daemon, its Repositories and their forges.
func (c *Config) Check(ctx context.Context) error {
	if err := c.checkFiles(); err != nil {
		if os.Getenv("CREDENTIALS_DIRECTORY") == "" {
			err = fmt.Errorf("%w\nthis is not within its unit, which has directories and secrets of its own: docs/webhook.md, step 7, has how to check with those", err)
		}
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return c.checkPeers(ctx)
}

func (c *Config) checkFiles() error {
	errs := []error{checkDirectory(c.Specs), checkDirectory(c.State)}
	for i := range c.Forges {
		f := &c.Forges[i]
		_, err := f.secrets()
		errs = append(errs, err)
		if f.App != nil {
			if err = f.app().Check(); err != nil {
				err = fmt.Errorf("%w: %s", err, f.App.KeyFile)
			}
		} else {
			_, err = companion.Secret(f.TokenFile)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checkDirectory reports whether we may write to a directory.
func checkDirectory(dir string) error {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fmt.Errorf("the directory %s is not there, or cannot be seen by this user; make it and give it to the user that tekton-webhook runs as", dir)
	}
	if err := unix.Access(dir, unix.R_OK|unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("the directory %s cannot be written by this user (%w); give it to the user that tekton-webhook runs as", dir, err)
	}
	return nil
}

// checkPeers asks the daemon for its Repositories, and the forge of each for its pull
// requests and for who may write. Nothing is written.
func (c *Config) checkPeers(ctx context.Context) error {
	items, err := askDaemon(ctx, client.New(c.Socket))
	if err != nil {
		return err
	}
	view := View{Repositories: map[string]*v1alpha1.RepositorySpec{}, Previews: map[string]*v1alpha1.Item{}}
	for i := range items {
		view.apply(v1alpha1.WatchEvent{Item: &items[i]})
	}
	forges, err := c.forges()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(view.Repositories)) {
		if err := checkRepository(ctx, forges, view, name); err != nil {
			errs = append(errs, fmt.Errorf("repository %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// askDaemon waits for one that has just been started: it reads the host first.
func askDaemon(ctx context.Context, daemon *client.Client) ([]v1alpha1.Item, error) {
	for late := time.After(daemonPatience); ; {
		items, err := daemon.List(ctx)
		if _, away := errors.AsType[*client.UnreachableError](err); away {
			return nil, fmt.Errorf("%w; with readSocketGroup in the Host, tektond lets a group ask: docs/webhook.md, step 3", err)
		}
		if err == nil {
			return items, nil
		}
		select {
		case <-late:
			return nil, err
		case <-time.After(reconnect / 4):
		}
	}
}

func checkRepository(ctx context.Context, forges []Forge, view View, name string) error {
	policy := view.Repositories[name]
	if policy == nil {
		return fmt.Errorf("the daemon refuses it; tekton describe repository/%s says why", name)
	}
	f, at, ok := forgeOf(forges, policy.URL)
	if !ok {
		return fmt.Errorf("%s is of no forge that is configured", policy.URL)
	}
	if first, _ := owner(view, f, at); first != name {
		return fmt.Errorf("it has the url of %s, the first by name, which counts: remove one of them", first)
	}
	_, err := f.Client.OpenPullRequests(ctx, at)
	if _, odd := errors.AsType[*forge.OddError](err); odd {
		err = nil // the others are seen
	}
	if err != nil {
		return err
	}
	// Whatever it may: of ourselves Forgejo tells us also where it tells us of nobody else.
	if _, err := f.Client.MayWrite(ctx, at, at.Owner); err != nil {
		return fmt.Errorf("no command can be judged: %w", err)
	}
	return nil
}
