package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tekton.host/pkg/host"
)

// identities remember which repository of a forge a Repository object means, since
// its url was written: an account that gives up its name leaves it to strangers, and
// it is theirs that the url leads to then.
type identities struct{ dir string }

// identity is the repository of a url.
type identity struct {
	URL string `json:"url"`
	ID  int64  `json:"id"`
}

// anotherError is a repository in the place of the one that is meant.
type anotherError struct {
	name, url string
	id, was   int64
}

func (e *anotherError) Error() string {
	return fmt.Sprintf("%s leads to another repository than before (%d, and was %d): nothing of it is shown; if it is meant, delete the Repository %s and apply it again", e.url, e.id, e.was, e.name)
}

func openIdentities(state string) (identities, error) {
	i := identities{filepath.Join(state, "repositories")}
	if err := os.MkdirAll(i.dir, 0o700); err != nil {
		return i, fmt.Errorf("make the directory of repositories: %w", err)
	}
	return i, nil
}

// check that the url leads to the repository of before; the first one is meant. An
// id of 0 is none: the forge does not say.
func (i identities) check(name, url string, id int64) error {
	if id == 0 {
		return nil
	}
	file := filepath.Join(i.dir, name+".json")
	raw, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read which repository is meant: %w", err)
	}
	var was identity
	if err == nil && json.Unmarshal(raw, &was) == nil && was.URL == url {
		if was.ID != id {
			return &anotherError{name: name, url: url, id: id, was: was.ID}
		}
		return nil
	}
	if raw, err = json.Marshal(identity{url, id}); err != nil {
		return err
	}
	return host.WriteFile(file, raw, 0o600)
}

// forget those of Repositories that are gone.
func (i identities) forget(has func(name string) bool) error {
	entries, err := os.ReadDir(i.dir)
	if err != nil {
		return fmt.Errorf("look for repositories: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if name, is := strings.CutSuffix(e.Name(), ".json"); is && !has(name) {
			errs = append(errs, remove(filepath.Join(i.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
