package repo

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testFunc    = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	namedTest   = regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
	testCommand = regexp.MustCompile("`[^`]*go test ((?:\\./\\S+ ?)+)(?:-run '?([^'` ]+)'?)?(?: -fuzz (\\w+))?[^`]*`")
)

// TestPromisesAreTested: the command beside each promise of docs/reliability.md
// runs the tests that are named there.
func TestPromisesAreTested(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/reliability.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		named := namedTest.FindAllStringSubmatch(line, -1)
		if !strings.HasPrefix(line, "| ") || len(named) == 0 {
			continue
		}
		rows++
		command := testCommand.FindStringSubmatch(strings.ReplaceAll(line, `\|`, "|"))
		if command == nil {
			continue // a make target, or the same as above
		}
		there := map[string]bool{}
		for dir := range strings.FieldsSeq(command[1]) {
			for _, name := range testsIn(t, dir) {
				there[name] = true
			}
		}
		pattern := regexp.MustCompile(command[2])
		for _, n := range named {
			if !there[n[1]] || !(pattern.MatchString(n[1]) || command[3] == n[1]) {
				t.Errorf("docs/reliability.md: %s is not run by: go test %s-run '%s'", n[1], command[1], command[2])
			}
		}
	}
	if rows < 30 {
		t.Errorf("docs/reliability.md has %d promises with a test; has its form changed?", rows)
	}
}

// testsIn lists the tests and fuzzers of a package, by its folder.
func testsIn(t *testing.T, dir string) []string {
	files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testFunc.FindAllStringSubmatch(string(data), -1) {
			names = append(names, m[1])
		}
	}
	return names
}
