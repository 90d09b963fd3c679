package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/ledger"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/server/wire"
	"tekton.host/pkg/source"
	"tekton.host/pkg/spec"
)

func container(name, command string) string {
	return fmt.Sprintf("apiVersion: tekton.host/v1alpha1\nkind: Container\nmetadata: {name: %s}\nspec: {system: {host: true}, command: [%s]}\n", name, command)
}

// TestEdit: however a file is written, one of its documents is replaced or
// removed and the others stay; what cannot be told apart is left alone.
func TestEdit(t *testing.T) {
	three := container("a", "x") + "---\n" + container("b", "x") + "---\n" + container("c", "x")
	flow := "{apiVersion: tekton.host/v1alpha1, kind: Container, metadata: {name: b}, spec: {system: {host: true}, command: [x]}}\n"
	const refused = "refused"
	for name, tt := range map[string]struct{ file, text, want string }{
		"replace":                 {three, container("b", "y"), "a=x b=y c=x"},
		"remove":                  {three, "", "a=x c=x"},
		"add":                     {container("a", "x"), container("b", "y"), "a=x b=y"},
		"the only one":            {container("b", "x"), "", ""},
		"a new file":              {"", container("b", "y"), "b=y"},
		"DOS replace":             {strings.ReplaceAll(three, "\n", "\r\n"), container("b", "y"), "a=x b=y c=x"},
		"DOS remove":              {strings.ReplaceAll(three, "\n", "\r\n"), "", "a=x c=x"},
		"old Mac":                 {strings.ReplaceAll(three, "\n", "\r"), "", "a=x c=x"},
		"byte order mark":         {"\ufeff---\n" + three, "", "a=x c=x"},
		"on the marker, remove":   {container("a", "x") + "--- " + flow + "---\n" + container("c", "x"), "", "a=x c=x"},
		"on the marker, beside":   {"---\n" + container("b", "x") + "--- " + strings.ReplaceAll(flow, "name: b", "name: a"), "", "a=x"},
		"a comment on the marker": {container("a", "x") + "--- # the second\n" + container("b", "x"), container("b", "y"), "a=x b=y"},
		"an end mark":             {container("a", "x") + "...\n---\n" + container("b", "x") + "...\n", "", "a=x"},
		"a neighbour ends in empty lines": {
			container("a", "x") + "---\n" + strings.TrimSuffix(container("c", "x"), "[x]}\n") + "[x], environment: {K: \"1\"}}\n\n\n---\n" + container("b", "x"), "", "a=x c=x"},

		"more behind the end mark":  {container("b", "x") + "...\n" + container("c", "x"), "", refused},
		"more than one in its text": {three, container("b", "y") + "---\n" + container("d", "y"), refused},
		"another one in its text":   {three, container("d", "y"), refused},
		"declared twice":            {container("b", "x") + "---\n" + container("b", "y"), "", refused},
		"one too many":              {strings.Repeat("---\n"+container("a", "x"), spec.MaxDocuments), container("b", "y"), refused},
	} {
		t.Run(name, func(t *testing.T) {
			edited, err := edit("f.yaml", []byte(tt.file), v1alpha1.Ref{Kind: "Container", Name: "b"}, tt.text, spec.Options{})
			if e, told := errors.AsType[*wire.Error](err); told && e.Code == wire.Conflict && strings.Contains(e.Message, "f.yaml") && strings.Contains(e.Next, "by hand: f.yaml") {
				if tt.want != refused {
					t.Errorf("refused: %v", e)
				}
				return
			}
			if err != nil || tt.want == refused {
				t.Fatalf("%q %v", edited, err)
			}
			var got []string
			if edited != nil {
				objects, problems := spec.Decode("f.yaml", edited, spec.Options{})
				for _, o := range objects {
					got = append(got, o.Meta().Name+"="+o.Object.(*v1alpha1.Container).Spec.Command[0])
				}
				if len(problems) > 0 {
					t.Errorf("problems: %v", problems)
				}
			}
			if d := cmp.Diff(tt.want, strings.Join(got, " ")); d != "" {
				t.Errorf("%s\n%s", d, edited)
			}
		})
	}
}

// TestEditBroken: a document with problems is replaced and removed as well, as
// long as it says whose it is; no second one comes beside it.
func TestEditBroken(t *testing.T) {
	wrong := strings.ReplaceAll(container("b", "x"), "command", "comand")
	unparsable := strings.ReplaceAll(container("b", "x"), "{system", "{{system")
	unnamed := strings.ReplaceAll(container("b", "x"), "name: b", "nam: b")
	unkind := strings.ReplaceAll(container("b", "x"), "Container", "Contaner")
	block := "apiVersion: tekton.host/v1alpha1\nkind: Container\nmetadata:\n  name: b\nspec: {{\n"
	for name, tt := range map[string]struct {
		broken string
		clear  bool
	}{
		"an unknown field":         {wrong, true},
		"not YAML, but a name":     {block, true},
		"not YAML":                 {unparsable, false},
		"no name":                  {unnamed, false},
		"an unknown kind":          {unkind, false},
		"two of them":              {wrong + "---\n" + block, false},
		"another one without name": {wrong + "---\n" + strings.ReplaceAll(unnamed, "nam: b", "nam: x"), true},
	} {
		t.Run(name, func(t *testing.T) {
			file := container("a", "x") + "---\n" + tt.broken
			for _, text := range []string{container("b", "y"), ""} {
				edited, err := edit("f.yaml", []byte(file), v1alpha1.Ref{Kind: "Container", Name: "b"}, text, spec.Options{})
				if e, told := errors.AsType[*wire.Error](err); !tt.clear {
					if !told || e.Code != wire.Conflict || !strings.Contains(e.Message+e.Next, "f.yaml:") || !strings.Contains(e.Next, "by hand") {
						t.Errorf("%q: %q %v", text, edited, err)
					}
					continue
				}
				want := strings.Replace(file, wrong, text, 1)
				if name == "not YAML, but a name" {
					want = strings.Replace(file, block, text, 1)
				}
				if text == "" {
					want = strings.Replace(strings.Replace(file, "---\n"+wrong, "", 1), "---\n"+block, "", 1)
				}
				if d := cmp.Diff(want, string(edited)); d != "" || err != nil {
					t.Errorf("%q: %v\n%s", text, err, d)
				}
			}
		})
	}
	// Whoever is found needs not be guessed, whatever else the file has.
	if _, err := edit("f.yaml", []byte(container("b", "x")+"---\n"+unnamed), v1alpha1.Ref{Kind: "Container", Name: "b"}, "", spec.Options{}); err != nil {
		t.Error(err)
	}
}

// local is a daemon with one source that specs can be written to.
func local(t *testing.T) (d *Daemon, dir string) {
	l, err := ledger.Open(filepath.Join(t.TempDir(), "ledger.json"), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	d = &Daemon{ledger: l, sources: map[string]*source.Directory{"local": nil}}
	d.opts.Host.Sources = []v1alpha1.SourceConfig{{Name: "local", Path: dir}}
	return d, dir
}

// accept writes down that an object was accepted, as the engine does.
func accept(t *testing.T, d *Daemon, r compile.ObjectRecord) {
	raw, err := json.Marshal(r)
	if err == nil {
		err = d.ledger.Commit(t.Context(), []ledger.Op{ledger.Claim(resource.Claim{Key: compile.ObjectKey(r.Kind, r.Name), Owner: r.UID, Value: raw})})[0]
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestApplyAtOnce: of those who change one file at the same time, none loses
// what another one wrote.
func TestApplyAtOnce(t *testing.T) {
	const many = 16
	d, dir := local(t)
	file := filepath.Join(dir, "all.yaml")
	var docs []string
	for i := range many {
		docs = append(docs, container(fmt.Sprintf("c%d", i), "x"))
		accept(t, d, compile.ObjectRecord{UID: fmt.Sprintf("u%d", i), Kind: "Container", Name: fmt.Sprintf("c%d", i), Source: "local", File: file, Generation: 1})
	}
	if err := os.WriteFile(file, []byte(strings.Join(docs, "---\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			doc := container(fmt.Sprintf("c%d", i), "y")
			if _, err := d.Apply(t.Context(), "", []v1alpha1.File{{Name: "-", Data: []byte(doc)}}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	data, err := os.ReadFile(file)
	if d := cmp.Diff(strings.ReplaceAll(strings.Join(docs, "---\n"), "[x]", "[y]"), string(data)); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
}

// TestApplyOntoGoing: what is written under the name of an object that is being
// deleted is a new one, where its document was.
func TestApplyOntoGoing(t *testing.T) {
	d, dir := local(t)
	file := filepath.Join(dir, "all.yaml")
	apply := func(want v1alpha1.ApplyAction, generation int64, at string) {
		t.Helper()
		got, err := d.Apply(t.Context(), "", []v1alpha1.File{{Name: "-", Data: []byte(container("web", "x"))}})
		if err != nil || len(got) != 1 || got[0].Action != want || got[0].Generation != generation || got[0].Source.File != at {
			t.Errorf("%+v %v", got, err)
		}
		if data, err := os.ReadFile(at); string(data) != container("web", "x") {
			t.Errorf("%q %v", data, err)
		}
	}
	objects, problems := spec.Decode("-", []byte(container("web", "x")), spec.Options{Host: &d.opts.Host})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r := compile.ObjectRecord{UID: "u1", Kind: "Container", Name: "web", Source: "local", File: file, Generation: 5, Digest: objects[0].Digest}
	accept(t, d, r)
	apply(v1alpha1.ApplyUnchanged, 5, file)
	if err := d.remove(t.Context(), r, "deleted"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(file); !os.IsNotExist(err) {
		t.Errorf("the document is still there: %v", err)
	}
	apply(v1alpha1.ApplyCreated, 1, file)

	// Of another source: it comes where it is written now.
	r = compile.ObjectRecord{UID: "u2", Kind: "Container", Name: "api", Source: "git", File: "/repository/api.yaml", Generation: 5, Digest: objects[0].Digest}
	accept(t, d, r)
	api := v1alpha1.File{Name: "-", Data: []byte(container("api", "x"))}
	if got, err := d.Apply(t.Context(), "", []v1alpha1.File{api}); err == nil {
		t.Errorf("taken from its source: %+v", got)
	}
	if err := d.remove(t.Context(), r, "deleted"); err != nil {
		t.Fatal(err)
	}
	got, err := d.Apply(t.Context(), "", []v1alpha1.File{api})
	if err != nil || got[0].Action != v1alpha1.ApplyCreated || got[0].Generation != 1 || got[0].Source.File != filepath.Join(dir, "container-api.yaml") {
		t.Errorf("%+v %v", got, err)
	}
}

// TestEditKeepsPermissions: who may read a file is for whom it belongs to say.
func TestEditKeepsPermissions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yaml")
	ref := v1alpha1.Ref{Kind: "Container", Name: "web"}
	mode := func() (fs.FileMode, uint32, uint32) {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		stat := info.Sys().(*syscall.Stat_t)
		return info.Mode(), stat.Uid, stat.Gid
	}
	if err := (&Daemon{}).editFile(file, ref, container("web", "x")); err != nil {
		t.Fatal(err)
	}
	if m, _, _ := mode(); m != 0o644 {
		t.Errorf("a new file has %v", m)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 1234, 4321
	}
	if err := errors.Join(os.Chmod(file, 0o640), os.Chown(file, uid, gid)); err != nil {
		t.Fatal(err)
	}
	if err := (&Daemon{}).editFile(file, ref, container("web", "y")); err != nil {
		t.Fatal(err)
	}
	if m, u, g := mode(); m != 0o640 || int(u) != uid || int(g) != gid {
		t.Errorf("a rewritten file has %v %d %d", m, u, g)
	}
	if data, _ := os.ReadFile(file); string(data) != container("web", "y") {
		t.Errorf("%q", data)
	}
}
