package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

// fileVersion of the format. A higher one was written by a later tekton.
const fileVersion = 1

// previousSuffix names the version before the last commit.
const previousSuffix = ".1"

// File is a store in one JSON file, with a claim a line, so that it can be
// read, compared and searched with ordinary tools. All claims are kept in
// memory; the file is read once.
type File struct {
	*Memory
	path string
}

var _ Store = (*File)(nil)

// Open reads the ledger, or begins an empty one where there is none. It
// refuses a file that it does not understand: to start without the claims
// would give names, addresses and data to others.
func Open(path string, o Options) (*File, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return begin(path, o)
	}
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	t, err := parse(data)
	if err != nil {
		return nil, refuse(path, data, err)
	}
	return newFile(path, o, t), nil
}

func newFile(path string, o Options, t *table) *File {
	f := &File{path: path}
	f.Memory = newMemory(o, t, f.save)
	return f
}

// begin starts an empty ledger, unless there was one.
func begin(path string, o Options) (*File, error) {
	_, err := os.Lstat(path + previousSuffix)
	switch {
	case err == nil:
		return nil, fmt.Errorf("the ledger %s is gone, but its previous version is there: without it tekton would not know what it owns; next step: %s", path, restore(path))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("look for the ledger's previous version: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the ledger: %w", err)
	}
	return newFile(path, o, newTable(0, nil)), nil
}

// refuse keeps a copy of a ledger that cannot be read, under a name of its
// content, and says what to do.
func refuse(path string, data []byte, cause error) error {
	sum := sha256.Sum256(data)
	copied := path + ".corrupt-" + hex.EncodeToString(sum[:4])
	if err := host.WriteFile(copied, data, 0o600); err != nil {
		return fmt.Errorf("the ledger %s cannot be read: %w; no copy could be made of it: %w; it is left as it is", path, cause, err)
	}
	return fmt.Errorf("the ledger %s cannot be read: %w; it is left as it is, with a copy at %s; next step: %s", path, cause, copied, restore(path))
}

// restore says how the previous version comes back, if there is a good one.
func restore(path string) string {
	previous := path + previousSuffix
	data, err := os.ReadFile(previous)
	if err != nil {
		return fmt.Sprintf("restore %s from a backup", path)
	}
	t, err := parse(data)
	if err != nil {
		return fmt.Sprintf("restore %s from a backup (%s cannot be read either: %v)", path, previous, err)
	}
	return fmt.Sprintf("restore the version before the last change (revision %d, %d claims) with `cp %s %s`, or a backup, and start again", t.revision, len(t.claims), previous, path)
}

// save replaces the file; the version that it replaces stays as PATH.1.
// At every moment there is a whole file at path.
func (f *File) save(t *table) error {
	data, err := format(t)
	if err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	if err := keepPrevious(f.path); err != nil {
		return fmt.Errorf("keep the ledger's previous version: %w", err)
	}
	if err := host.WriteFile(f.path, data, 0o600); err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	return nil
}

// keepPrevious gives the file at path a second name, by way of a temporary
// one, for a link cannot replace an existing name.
func keepPrevious(path string) error {
	temp := path + previousSuffix + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := os.Link(path, temp)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the first commit
	}
	if err != nil {
		return err
	}
	return os.Rename(temp, path+previousSuffix)
}

// document is the file's content.
type document struct {
	Version  int              `json:"version"`
	Revision int64            `json:"revision"`
	Claims   []resource.Claim `json:"claims"`
}

// format writes one claim a line, in the order of keys.
func format(t *table) ([]byte, error) {
	var out bytes.Buffer
	fmt.Fprintf(&out, `{"version":%d,"revision":%d,"claims":[`, fileVersion, t.revision)
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // or values would come back other than they went
	for i, c := range t.sorted {
		if i > 0 {
			out.WriteByte(',')
		} else {
			out.WriteByte('\n')
		}
		if err := enc.Encode(c); err != nil { // ends the line
			return nil, fmt.Errorf("claim %s: %w", c.Key, err)
		}
	}
	out.WriteString("]}\n")
	return out.Bytes(), nil
}

// parse reads a whole ledger or none of it.
func parse(data []byte) (*table, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errors.New("it is empty")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var doc document
	if err := dec.Decode(&doc); err != nil {
		var head struct {
			Version int `json:"version"`
		}
		if json.Unmarshal(data, &head) == nil && head.Version > fileVersion {
			return nil, later(head.Version)
		}
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows its end")
	}
	if doc.Version > fileVersion {
		return nil, later(doc.Version)
	}
	if doc.Version < 1 || doc.Revision < 0 {
		return nil, fmt.Errorf("it has version %d and revision %d", doc.Version, doc.Revision)
	}
	claims := make(map[string]resource.Claim, len(doc.Claims))
	for _, c := range doc.Claims {
		c, err := normalize(c)
		if err != nil {
			return nil, err
		}
		if _, twice := claims[c.Key]; twice {
			return nil, fmt.Errorf("it has the key %s twice", c.Key)
		}
		if c.Revision < 1 || c.Revision > doc.Revision {
			return nil, fmt.Errorf("%s has revision %d, the ledger %d", c.Key, c.Revision, doc.Revision)
		}
		claims[c.Key] = c
	}
	return newTable(doc.Revision, claims), nil
}

func later(version int) error {
	return fmt.Errorf("it has version %d and was written by a later tekton; this one reads up to %d", version, fileVersion)
}
