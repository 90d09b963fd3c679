package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/host"
)

// Ref is a pull request of a Repository object. What is kept of it bears that
// object's name, which stays when the forge calls the repository something else.
type Ref struct {
	Repository string
	Number     int
}

func (r Ref) base() string { return r.Repository + "." + strconv.Itoa(r.Number) }

// parseRef reads the name of a file without its extension.
func parseRef(base string) (Ref, bool) {
	name, digits, _ := strings.Cut(base, ".")
	n, err := strconv.Atoi(digits)
	r := Ref{Repository: name, Number: n}
	return r, err == nil && n > 0 && name != "" && r.base() == base
}

// Record is what is remembered of a pull request beside its spec: it is written
// after that. A record with a digest and without a spec says that somebody else
// took the spec away: a ttl, or `tekton delete`.
type Record struct {
	Key Key `json:"key"`
	// Preview is its name.
	Preview string `json:"preview"`
	// Digest of what was wanted; empty: we have removed it, and may still have to tell so.
	Digest string `json:"digest"`
}

// SpecState is what there is of a spec.
type SpecState int

// States of a spec.
const (
	SpecAbsent  SpecState = iota
	SpecPresent           // a document
	SpecBuried            // a file without a document: its removal is meant, and no accident
)

// Entry is what is kept of a pull request.
type Entry struct {
	State SpecState
	Text  []byte
	// Changed is when the file was written.
	Changed time.Time
	// Preview is the name that its preview has, or had; empty: it had none.
	Preview string
	Record  *Record
}

// Store keeps the specs of previews in a directory that is a source of the
// daemon, one file a pull request, and the records in another.
type Store struct {
	specs   string
	records string
}

const buriedText = `# tekton-webhook has removed the preview that was written here. That the file
# is still there says that it was meant; it goes, too, when the preview is gone.
`

const specText = "# tekton-webhook keeps this file as its pull request is, and undoes other changes.\n"

// OpenStore opens both directories. That of the specs has to be there: were it
// made, a missing mount would look like no previews.
func OpenStore(specs, state string) (*Store, error) {
	s := &Store{specs: specs, records: filepath.Join(state, "records")}
	if err := checkDirectory(specs); err != nil {
		return nil, fmt.Errorf("%w; it is a source of the daemon", err)
	}
	if err := os.MkdirAll(s.records, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of records: %w", err)
	}
	return s, nil
}

// File is where the spec is written.
func (s *Store) File(r Ref) string { return filepath.Join(s.specs, r.base()+".yaml") }

// Ref of a spec file.
func (s *Store) Ref(file string) (Ref, bool) {
	base, ok := strings.CutSuffix(filepath.Base(file), ".yaml")
	if !ok || filepath.Dir(file) != filepath.Clean(s.specs) {
		return Ref{}, false
	}
	return parseRef(base)
}

func (s *Store) record(r Ref) string { return filepath.Join(s.records, r.base()+".json") }

// Refs are all pull requests of which there is a spec or a record, sorted.
func (s *Store) Refs() ([]Ref, error) {
	var refs []Ref
	for dir, ext := range map[string]string{s.specs: ".yaml", s.records: ".json"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("look for previews: %w", err)
		}
		for _, e := range entries {
			base, is := strings.CutSuffix(e.Name(), ext)
			if r, ok := parseRef(base); is && ok {
				refs = append(refs, r)
			}
		}
	}
	slices.SortFunc(refs, compareRefs)
	return slices.Compact(refs), nil
}

func compareRefs(a, b Ref) int {
	if c := strings.Compare(a.Repository, b.Repository); c != 0 {
		return c
	}
	return a.Number - b.Number
}

// Read what is kept of a pull request.
func (s *Store) Read(r Ref) (Entry, error) {
	var e Entry
	raw, err := os.ReadFile(s.record(r))
	if err == nil {
		rec := &Record{}
		if json.Unmarshal(raw, rec) == nil {
			rec.Key = rec.Key.folded()
			e.Record, e.Preview = rec, rec.Preview
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return e, fmt.Errorf("read the record: %w", err)
	}
	info, err := os.Lstat(s.File(r))
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no plain file; move it away", s.File(r))
	}
	if err == nil {
		e.Text, err = os.ReadFile(s.File(r))
	}
	if err != nil {
		return e, fmt.Errorf("read the spec: %w", err)
	}
	e.Changed, e.State = info.ModTime(), SpecPresent
	if blank(e.Text) {
		e.State = SpecBuried
		return e, nil
	}
	var p v1alpha1.Preview
	if yaml.Unmarshal(e.Text, &p) == nil && p.Kind == v1alpha1.KindPreview && p.Metadata.Name != "" {
		e.Preview = p.Metadata.Name
	}
	return e, nil
}

// blank reports whether a file holds comments only.
func blank(text []byte) bool {
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			return false
		}
	}
	return true
}

// Put writes a spec, then the record. What is already so is not written.
func (s *Store) Put(r Ref, e Entry, text []byte, rec Record) error {
	if e.State != SpecPresent || string(e.Text) != string(text) {
		if err := host.WriteFile(s.File(r), text, 0o644); err != nil {
			return err
		}
	}
	return s.keep(r, e, rec)
}

// Unwant forgets what was wanted. It comes before Remove: a record that is like
// that beside a buried spec does no harm.
func (s *Store) Unwant(r Ref, e Entry) error {
	if e.Record == nil {
		return nil
	}
	rec := *e.Record
	rec.Digest = ""
	return s.keep(r, e, rec)
}

// keep a record.
func (s *Store) keep(r Ref, e Entry, rec Record) error {
	if e.Record != nil && *e.Record == rec {
		return nil
	}
	raw, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return host.WriteFile(s.record(r), raw, 0o600)
}

// Bury takes the document out of a spec's file, which says that this was meant:
// the preview goes at once. A file that vanishes may be an accident.
func (s *Store) Bury(r Ref) error { return host.WriteFile(s.File(r), []byte(buriedText), 0o644) }

// Remove the file of a buried spec.
func (s *Store) Remove(r Ref) error { return remove(s.File(r)) }

// Forget the record.
func (s *Store) Forget(r Ref) error { return remove(s.record(r)) }

func remove(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return host.SyncDir(filepath.Dir(file))
}
