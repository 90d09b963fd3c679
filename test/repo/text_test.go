package repo

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// foreign is what no file may say. Words are put together here, so that this
// file does not say them.
var foreign = []struct{ pattern, why string }{
	{`\b(proxy|sum)\.golang` + `\.org|registry\.npm` + `js\.org|\bpypi` + `\.org|crates` + `\.io|docker` + `\.io|ghcr` + `\.io|quay` + `\.io`,
		"names a package registry; its client knows where it is"},
	{`/work/(main|shared)|/tmp/t[0-9k]+\b|/root/\.(pyenv|cache)|/home/[a-z]+/`, "is a path of one machine"},
}

func TestNothingForeign(t *testing.T) {
	for _, name := range tracked(t) {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			continue // removed, not yet committed
		}
		for _, f := range foreign {
			if at := regexp.MustCompile(f.pattern).FindIndex(data); at != nil {
				t.Errorf("%s:%d: %q %s", name, 1+strings.Count(string(data[:at[0]]), "\n"), data[at[0]:at[1]], f.why)
			}
		}
	}
}

func TestGeneratedFilesAreUpToDate(t *testing.T) {
	cmd := exec.Command("go", "run", "./hack/gen", "-check")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

var link = regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)]*)?\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	for _, name := range tracked(t) {
		if filepath.Ext(name) != ".md" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(string(data), -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", name, m[1])
			}
		}
	}
}

// tableRows are the cells of the Markdown tables of a document whose first cell matches.
func tableRows(t *testing.T, doc string, first *regexp.Regexp) [][]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, doc))
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(string(data)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if len(cells) > 1 && first.MatchString(cells[0]) {
			rows = append(rows, cells)
		}
	}
	if len(rows) == 0 {
		t.Fatalf("%s has no such table", doc)
	}
	return rows
}

// TestDocumentedMessagesExist: what the page says that tekton says, it says.
func TestDocumentedMessagesExist(t *testing.T) {
	var code strings.Builder
	for _, name := range tracked(t) {
		if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(name, "test/") {
			data, _ := os.ReadFile(filepath.Join(root, name))
			code.Write(data)
		}
	}
	for _, row := range tableRows(t, "docs/troubleshooting.md", regexp.MustCompile("^`")) {
		for message := range strings.SplitSeq(strings.Trim(row[0], "`"), "`, `") {
			if strings.HasPrefix(message, "FILE:") {
				continue // an example of a place
			}
			said := 0
			for part := range strings.SplitSeq(message, "…") {
				if len(part) < 6 {
					continue
				}
				said++
				if !strings.Contains(code.String(), part) {
					t.Errorf("docs/troubleshooting.md explains %q, but nothing says %q", message, part)
				}
			}
			if said == 0 {
				t.Errorf("docs/troubleshooting.md: %q is too short to be looked for", message)
			}
		}
	}
}

// TestDocumentedReasonsExist: the table of reasons names none that the code no longer gives.
func TestDocumentedReasonsExist(t *testing.T) {
	var code strings.Builder
	for _, name := range tracked(t) {
		if strings.HasPrefix(name, "pkg/") && strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			data, _ := os.ReadFile(filepath.Join(root, name))
			code.Write(data)
		}
	}
	// Reasons are CamelCase words; the rows of conditions above them are, too.
	reasons := regexp.MustCompile(`^[A-Z][A-Za-z]+(, [A-Z][A-Za-z]+)*$`)
	for _, row := range tableRows(t, "docs/troubleshooting.md", reasons) {
		for reason := range strings.SplitSeq(row[0], ", ") {
			if !strings.Contains(code.String(), `"`+reason+`"`) {
				t.Errorf("docs/troubleshooting.md explains %s, which no code gives", reason)
			}
		}
	}
}

// TestDocumentedDependenciesExist: no line is left for a module that is not used any more.
func TestDocumentedDependenciesExist(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range tableRows(t, "docs/dependencies.md", regexp.MustCompile("^`[a-z0-9.]+\\.[a-z]+/")) {
		module := strings.Trim(row[0], "`")
		at := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(module) + ` v[^ ]+$`)
		if !at.Match(mod) {
			t.Errorf("docs/dependencies.md explains %s, which is no direct dependency", module)
		}
	}
}

// TestProgramsAreDocumented: each Debian package that hack/deps.sh installs has its reason.
func TestProgramsAreDocumented(t *testing.T) {
	deps, err := os.ReadFile(filepath.Join(root, "hack/deps.sh"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(filepath.Join(root, "docs/dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"host", "packages"} {
		_, names, _ := strings.Cut(string(deps), "\n"+list+"=(\n")
		names, _, found := strings.Cut(names, "\n)")
		if !found {
			t.Fatalf("hack/deps.sh has no list %s=( … )", list)
		}
		// Tests run with all that a server has.
		if all := `  "${host[@]}"` + "\n"; list == "packages" && !strings.HasPrefix(names, all) {
			t.Error("hack/deps.sh: what is installed for tests does not begin with what is for a server")
		} else {
			names = strings.TrimPrefix(names, all)
		}
		for line := range strings.Lines(names) {
			line, _, _ = strings.Cut(line, "#")
			for name := range strings.FieldsSeq(line) {
				if !regexp.MustCompile(`[| ,]` + regexp.QuoteMeta(name) + `[ ,|]`).Match(doc) {
					t.Errorf("hack/deps.sh installs %s without a line in docs/dependencies.md", name)
				}
			}
		}
	}
}

// small programs live beside machines for months or run inside them: they link
// little, so that an upgrade of anything else is none of theirs.
var small = []string{"pkg/supervise/supervisor", "pkg/supervise/contract", "pkg/machine/guest", "pkg/machine/handover", "pkg/machine/transfer"}

func TestProgramsThatStayAreSmall(t *testing.T) {
	for _, p := range list(t) {
		if !slices.Contains(small, strings.TrimPrefix(p.ImportPath, module)) {
			continue
		}
		for _, i := range p.Imports {
			host, _, _ := strings.Cut(i, "/")
			ours := strings.HasPrefix(i, module)
			if strings.Contains(host, ".") && !ours && !within(i, "golang.org/x/sys") {
				t.Errorf("%s imports %s; it may use the standard library and golang.org/x/sys", p.ImportPath, i)
			}
			if ours && !within(i, module+"pkg/supervise") && !within(i, module+"pkg/machine") {
				t.Errorf("%s imports %s; it knows nothing of the daemon", p.ImportPath, i)
			}
		}
	}
}
