package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tekton.host/pkg/compile"
	"tekton.host/pkg/host"
	"tekton.host/pkg/ledger"
	"tekton.host/pkg/resource"
)

// The instance of a host enters the names of databases and roles, which are also
// those of their passwords and claims. Where the host that a backup is put back on
// has another one, they get the names that it gives them.

// renaming gives what is staged the names of another instance.
type renaming struct {
	dir string // of all that is staged
	to  resource.Naming
	new map[string]string // name of a database, by the one that it had
}

func (r *renaming) state(p ...string) string {
	return filepath.Join(append([]string{r.dir, GroupState}, p...)...)
}

// all renames. Whoever is cut short here begins again with the archive.
func (r *renaming) all() error {
	r.new = map[string]string{}
	for _, dir := range []string{filepath.Join(r.dir, GroupDatabases), r.state("restored")} {
		if err := r.dumps(dir, true); err != nil {
			return err
		}
	}
	if err := r.dumps(r.state("trash", "databases"), false); err != nil {
		return err
	}
	for old, now := range r.new {
		for _, dir := range []string{r.state("passwords"), r.state("passwords", ".owners")} {
			err := os.Rename(filepath.Join(dir, old), filepath.Join(dir, now))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return r.claims()
}

// dumps renames the databases that dumps are of, and their directories where
// those are named like them.
func (r *renaming) dumps(dir string, named bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		file := filepath.Join(dir, e.Name(), "info.json")
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // half of one, which nobody uses
		}
		if err != nil {
			return err
		}
		old, now, text, err := r.info(text)
		if err != nil {
			return fmt.Errorf("read %s of %s: %w", filepath.Base(file), e.Name(), err)
		}
		r.new[old] = now
		if err := host.WriteFile(file, text, 0o600); err != nil {
			return err
		}
		if named {
			if err := os.Rename(filepath.Join(dir, e.Name()), filepath.Join(dir, now)); err != nil {
				return err
			}
		}
	}
	return nil
}

// info says what the database of a dump was called, and is.
func (r *renaming) info(text []byte) (old, now string, changed []byte, err error) {
	var fields map[string]json.RawMessage
	var says struct{ Database, Label string }
	if err := errors.Join(json.Unmarshal(text, &fields), json.Unmarshal(text, &says)); err != nil {
		return "", "", nil, err
	}
	parts := strings.Split(says.Label, "/") // KIND/NAME/DATABASE
	if len(parts) != 3 {
		return "", "", nil, fmt.Errorf("%q does not say whose it is", says.Label)
	}
	now = r.to.DatabaseName(parts[0], parts[1], parts[2])
	if fields["database"], err = json.Marshal(now); err != nil {
		return "", "", nil, err
	}
	changed, err = encode(fields)
	return says.Database, now, changed, err
}

// claims renames those of the databases.
func (r *renaming) claims() error {
	book, err := ledger.Open(r.state("ledger.json"), ledger.Options{})
	if err != nil {
		return err
	}
	claims, _, err := book.List(context.Background())
	if err != nil {
		return err
	}
	var ops []ledger.Op
	for _, c := range claims {
		for old, now := range r.new {
			if c.Key != compile.DataKey(resource.ID{Kind: resource.KindDatabase, Name: old}) || old == now {
				continue
			}
			ops = append(ops, ledger.Release(c))
			c.Key, c.Revision = compile.DataKey(resource.ID{Kind: resource.KindDatabase, Name: now}), 0
			ops = append(ops, ledger.Claim(c))
		}
	}
	if len(ops) == 0 {
		return nil
	}
	return errors.Join(book.Commit(context.Background(), ops)...)
}
