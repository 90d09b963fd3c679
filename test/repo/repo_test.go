package repo

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tekton.host/pkg/spec"
)

const (
	root   = "../.."
	module = "tekton.host/"
)

// allowed is what a package (with those below it) may import of ours. A name
// stands for the package and all below it.
var allowed = map[string][]string{
	"pkg/api":        {},
	"pkg/resource":   {},
	"pkg/host":       {},
	"specs":          {},
	"pkg/spec":       {"pkg/api", "specs"},
	"pkg/source":     {"pkg/spec", "pkg/host", "pkg/repository"},
	"pkg/absence":    {"pkg/source", "pkg/spec", "pkg/api"},
	"pkg/preview":    {"pkg/api", "pkg/spec"},
	"pkg/compile":    {"pkg/api", "pkg/resource", "pkg/host", "pkg/preview"},
	"pkg/plan":       {"pkg/resource"},
	"pkg/ledger":     {"pkg/resource", "pkg/host"},
	"pkg/secret":     {"pkg/resource", "pkg/host"},
	"pkg/network":    {"pkg/resource", "pkg/host"},
	"pkg/supervise":  {"pkg/resource", "pkg/host", "pkg/internal"},
	"pkg/machine":    {"pkg/resource", "pkg/host", "pkg/supervise", "pkg/nix", "pkg/repository"},
	"pkg/database":   {"pkg/resource", "pkg/host", "pkg/supervise"},
	"pkg/ingress":    {"pkg/resource", "pkg/host", "pkg/supervise"},
	"pkg/dns":        {"pkg/resource", "pkg/host", "pkg/supervise"},
	"pkg/activator":  {"pkg/resource", "pkg/host", "pkg/supervise"},
	"pkg/nix":        {"pkg/resource", "pkg/host", "pkg/supervise", "pkg/internal", "pkg/job"},
	"pkg/repository": {"pkg/host"},
	"pkg/checkout":   {"pkg/resource", "pkg/host", "pkg/job", "pkg/repository", "pkg/supervise"},
	"pkg/job":        {"pkg/resource", "pkg/host", "pkg/supervise"},
	"pkg/setup":      {"pkg/resource", "pkg/host", "pkg/supervise", "pkg/job", "pkg/repository", "pkg/machine/handover", "pkg/machine/launch"},
	"pkg/reconcile":  {"pkg/api", "pkg/spec", "pkg/source", "pkg/absence", "pkg/compile", "pkg/plan", "pkg/resource", "pkg/host"},
	"pkg/event":      {"pkg/api"},
	"pkg/metrics":    {"pkg/api", "pkg/resource"},
	"pkg/notify":     {"pkg/api", "pkg/host"},
	"pkg/forge":      {},
	"pkg/why":        {"pkg/api", "pkg/internal/terminal"},
	"pkg/webhook":    {"pkg/api", "pkg/spec", "pkg/forge", "pkg/client", "pkg/server/wire", "pkg/preview", "pkg/host", "pkg/internal/companion"},
	"pkg/statuspage": {"pkg/api", "pkg/spec", "pkg/client", "pkg/server/wire", "pkg/internal/companion", "pkg/internal/terminal", "pkg/why"},
	"pkg/server":     {"pkg/api", "pkg/spec", "pkg/host"},
	"pkg/client":     {"pkg/api", "pkg/spec", "pkg/server/wire"},
	"pkg/migrate":    {"pkg/api", "pkg/spec", "pkg/machine/nixos/conf"},
	"pkg/cli":        {"pkg/api", "pkg/spec", "pkg/doctor", "pkg/backup", "pkg/host", "pkg/preview", "pkg/migrate", "pkg/client", "pkg/server/wire", "pkg/internal/terminal", "pkg/machine/nixos/conf", "pkg/machine/transfer", "pkg/why"},
	"pkg/backup":     {"pkg/api", "pkg/host", "pkg/ledger", "pkg/compile", "pkg/resource"},
	"pkg/internal":   {"pkg/resource"},
	"pkg/doctor":     {"pkg/api", "pkg/internal/terminal"},
	"pkg/doctor/onhost": {"pkg/api", "pkg/doctor", "pkg/client", "pkg/spec", "pkg/source", "pkg/secret", "pkg/resource", "pkg/host", "pkg/network", "pkg/machine/launch",
		"pkg/supervise"},
	"pkg/daemon": {"pkg/api", "pkg/spec", "pkg/source", "pkg/absence", "pkg/compile", "pkg/reconcile", "pkg/resource", "pkg/host", "pkg/ledger", "pkg/secret",
		"pkg/network", "pkg/machine", "pkg/database", "pkg/ingress", "pkg/dns", "pkg/activator", "pkg/nix", "pkg/checkout", "pkg/setup", "pkg/supervise", "pkg/server", "pkg/event", "pkg/metrics", "pkg/notify"},
}

// pure packages read nothing but their arguments.
var pure = map[string][]string{
	"pkg/preview": {"os", "net", "net/http", "os/exec", "math/rand", "crypto/rand", "syscall", "context"},
	"pkg/compile": {"os", "net/http", "os/exec", "math/rand", "crypto/rand", "syscall", "context"},
	"pkg/doctor":  {"os", "net", "net/http", "os/exec", "math/rand", "crypto/rand", "syscall", "context"},
	"pkg/plan":    {"os", "net", "net/http", "os/exec", "math/rand", "crypto/rand", "syscall", "context"},
	"pkg/absence": {"os", "net", "net/http", "os/exec", "math/rand", "crypto/rand", "syscall", "context"},
	"pkg/why":     {"os", "net", "net/http", "os/exec", "math/rand", "crypto/rand", "syscall", "context"},
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p pkg
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	return pkgs
}

func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// room is the innermost one that a package is in.
func room(path string) (innermost string) {
	for dir := range allowed {
		if within(path, dir) && len(dir) > len(innermost) {
			innermost = dir
		}
	}
	return innermost
}

func TestImportsRunDown(t *testing.T) {
	for _, p := range list(t) {
		from := strings.TrimPrefix(p.ImportPath, module)
		dir := room(from)
		if dir == "" {
			if strings.HasPrefix(from, "pkg/") {
				t.Errorf("%s is in no room; add it to the table here and in docs/architecture.md", from)
			}
			continue
		}
		for _, i := range p.Imports {
			to, ours := strings.CutPrefix(i, module)
			if ours && !within(to, dir) && !slices.ContainsFunc(allowed[dir], func(a string) bool { return within(to, a) }) {
				t.Errorf("%s imports %s; %s may import only %v", from, to, dir, allowed[dir])
			}
			if slices.Contains(pure[dir], i) {
				t.Errorf("%s imports %s; it is pure", from, i)
			}
		}
	}
}

// TestPureHasNoClock: now is a fact.
func TestPureHasNoClock(t *testing.T) {
	for dir := range pure {
		eachFile(t, dir, func(path string, f *ast.File) {
			ast.Inspect(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && !strings.HasSuffix(path, "_test.go") {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && (s.Sel.Name == "Now" || s.Sel.Name == "Since" || s.Sel.Name == "Until") {
						t.Errorf("%s uses time.%s", path, s.Sel.Name)
					}
				}
				return true
			})
		})
	}
}

func eachFile(t *testing.T, dir string, f func(path string, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.Contains(path, "testdata") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		f(path, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOneDocCommentAPackage(t *testing.T) {
	docs, names := map[string]int{}, map[string]string{}
	for _, dir := range []string{"pkg", "cmd", "test", "hack", "specs"} {
		eachFile(t, dir, func(path string, f *ast.File) {
			if strings.HasSuffix(path, "_test.go") {
				return
			}
			d := filepath.Dir(path)
			names[d] = f.Name.Name
			if f.Doc != nil {
				docs[d]++
			}
		})
	}
	for d := range names {
		if docs[d] != 1 {
			t.Errorf("%s has %d package comments, want one", d, docs[d])
		}
	}
}

// tracked are the files under version control, or, in a copy without it, all.
func tracked(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	return strings.Fields(string(out))
}

// unfinished words promise more than the code does.
var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)

func TestNothingUnfinished(t *testing.T) {
	for _, name := range tracked(t) {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil || filepath.Ext(name) == ".png" {
			continue // removed, not yet committed; or not written by anybody
		}
		if at := unfinished.FindIndex(data); at != nil {
			t.Errorf("%s says %q", name, data[at[0]:at[1]])
		}
	}
}

func TestScriptsParse(t *testing.T) {
	for _, name := range tracked(t) {
		if !strings.HasSuffix(name, ".sh") && name != ".ci/run" {
			continue
		}
		if out, err := exec.Command("bash", "-n", filepath.Join(root, name)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// reasons that are given to conditions, problems and holds, where they are made.
var reasonUse = regexp.MustCompile(`(?:Terminal|Because)\("([A-Z][A-Za-z]+)"|Waiting\("([A-Z][A-Za-z]+)"|\b[rR]eason[A-Za-z]*\s*(?::=|=|:)\s*"([A-Z][A-Za-z]+)"|\.Reason(?:, [a-z.A-Z]+)* = [^"\n]*"([A-Z][A-Za-z]+)"|return "([A-Z][a-z]+[A-Z][A-Za-z]+)", [^\n]*(?:[mM]essage|Sprintf)|\.note\([^"]*"([A-Z][A-Za-z]+)"`)

func TestReasonsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs/troubleshooting.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, w := range regexp.MustCompile(`\b[A-Z][A-Za-z]+\b`).FindAllString(string(doc), -1) {
		documented[w] = true
	}
	err = filepath.WalkDir(filepath.Join(root, "pkg"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/servertest/") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range reasonUse.FindAllStringSubmatch(string(data), -1) {
			for _, reason := range m[1:] {
				if reason != "" && !documented[reason] {
					t.Errorf("%s: reason %s is not in docs/troubleshooting.md", path, reason)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestConditionsAreDocumented: each condition's type has its row.
func TestConditionsAreDocumented(t *testing.T) {
	code, err := os.ReadFile(filepath.Join(root, "pkg/api/v1alpha1/status.go"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(filepath.Join(root, "docs/troubleshooting.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "\n## Conditions\n")
	table, _, _ = strings.Cut(table, "\n## ")
	types := regexp.MustCompile(`(?m)^\tCondition[A-Za-z]+ += "([A-Z][A-Za-z]+)"$`).FindAllStringSubmatch(string(code), -1)
	if len(types) < 15 {
		t.Fatalf("only %d types of conditions found", len(types))
	}
	for _, c := range types {
		row := regexp.MustCompile(`(?m)^\| (?:[A-Za-z]+, )*` + c[1] + `(?:, [A-Za-z]+)* \|`)
		if c[1] != "Ready" && !row.MatchString(table) { // which all others are of
			t.Errorf("condition %s is not in docs/troubleshooting.md", c[1])
		}
	}
}

func TestDependenciesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs/dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mod)) {
		path, _, isRequire := strings.Cut(strings.TrimSpace(line), " v")
		if isRequire && !strings.Contains(line, "// indirect") && !strings.Contains(string(doc), "`"+path+"`") {
			t.Errorf("%s is a direct dependency without a line in docs/dependencies.md", path)
		}
	}
}

func TestExamplesDecode(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "examples/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(filepath.Join(root, "examples/*/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if files = append(files, more...); len(files) < 5 {
		t.Fatalf("only %d examples found", len(files))
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var problems []spec.Problem
		if filepath.Base(file) == "host.yaml" {
			_, problems = spec.DecodeHost(file, data)
		} else {
			var objects []spec.Object
			objects, problems = spec.Decode(file, data, spec.Options{})
			if len(objects) == 0 {
				t.Errorf("%s holds no object", file)
			}
		}
		for _, p := range problems {
			t.Error(p)
		}
	}
}
