package e2e_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"tekton.host/test/systemdhost"
)

const (
	// previousEnv names the commit to upgrade from, by default the one before HEAD.
	previousEnv = "TEKTON_TEST_UPGRADE_FROM"
	// previousDir of the programs holds the earlier ones, and a file that says
	// where they come from.
	previousDir, originFile = "previous", "ORIGIN"
)

// errNoCommit: a shallow clone, a first commit, or no clone at all.
var errNoCommit = errors.New("git has no such commit")

// previousPrograms are those of an earlier commit, built once a process beside
// the present ones. Where there is none, and only there, the present source
// stands in as programs of another path and build: the origin says so, and so
// does hack/test.sh, which first tries to get the commit.
var previousPrograms = sync.OnceValues(func() (string, error) {
	present, err := programs()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(present, previousDir)
	if systemdhost.Inside() {
		return dir, nil // they were copied
	}
	source, err := os.MkdirTemp("", "tekton-previous")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(source)
	commit := cmp.Or(os.Getenv(previousEnv), "HEAD~1")
	origin, err := extract(commit, source)
	flags := "-s -w"
	if err != nil {
		if os.Getenv(previousEnv) != "" || !errors.Is(err, errNoCommit) {
			return "", fmt.Errorf("the programs of commit %s (another one: %s): %w", commit, previousEnv, err)
		}
		origin = fmt.Sprintf("THE PRESENT SOURCE, for there is no earlier one: %v", err)
		source, flags = filepath.Join("..", ".."), "-s"
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags="+flags, "-o", dir, "./cmd/...")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the programs of %s: %w: %s", origin, err, out)
	}
	return dir, os.WriteFile(filepath.Join(dir, originFile), []byte(origin), 0o644)
})

// extract writes a commit's files into a directory and tells which commit it is.
func extract(commit, dir string) (string, error) {
	git := func(args ...string) *exec.Cmd {
		// Root runs the tests on somebody's clone.
		return exec.Command("git", append([]string{"-c", "safe.directory=*"}, args...)...)
	}
	name, err := git("rev-parse", "--verify", "--quiet", commit+"^{commit}").Output()
	if _, said := errors.AsType[*exec.ExitError](err); said {
		return "", fmt.Errorf("%w: %s (a shallow clone? `git fetch --deepen=1`)", errNoCommit, commit)
	}
	if err != nil {
		return "", err
	}
	top, err := git("rev-parse", "--show-toplevel").Output()
	if err != nil {
		return "", err
	}
	archive := git("-C", strings.TrimSpace(string(top)), "archive", strings.TrimSpace(string(name)))
	untar := exec.Command("tar", "-x", "-C", dir)
	var out bytes.Buffer
	archive.Stderr, untar.Stderr = &out, &out
	if untar.Stdin, err = archive.StdoutPipe(); err != nil {
		return "", err
	}
	if err := errors.Join(untar.Start(), archive.Run(), untar.Wait()); err != nil {
		return "", fmt.Errorf("git archive %s: %w: %s", commit, err, &out)
	}
	return "commit " + strings.TrimSpace(string(name)), nil
}

// TestUpgrade lets an earlier daemon start machines with routes and databases
// and puts the present one in its place: it adopts them without a restart and
// without a change, while requests are under way.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	previous, err := previousPrograms()
	k.check(err)
	origin, err := os.ReadFile(filepath.Join(previous, originFile))
	k.check(err)
	t.Logf("upgrade from %s", origin)
	present := k.programs
	k.programs = previous
	k.up()
	var names []string
	spec := func(i int, generation int) string {
		name := fmt.Sprintf("app%d", i)
		return k.guestOf(runtimeOf(i), name, "routes: [{host: "+name+".test, port: 8080}]", "databases: [{name: main, deletionPolicy: Delete}]",
			"volumes: [{name: data, path: /data, deletionPolicy: Delete}]", "stopTimeout: 1s", fmt.Sprintf(`environment: {GENERATION: "%d"}`, generation))
	}
	for i := range 5 {
		name := fmt.Sprintf("app%d", i)
		names = append(names, name)
		k.write(name+".yaml", spec(i, 1))
	}
	k.ready(names...)
	for _, name := range names {
		k.mustAsk(name, "/sql", "q", "CREATE TABLE visit AS SELECT '"+name+"' AS who")
		k.mustAsk(name, "/append", "path", "/data/notes", "data", name)
	}
	k.settled()
	before := k.outlives()
	l, slow := k.load("app0.test"), k.underWay(names...)

	k.signal(syscall.SIGTERM)
	k.programs = present
	k.up()
	k.ready(names...)
	k.settled()
	if diff := gocmp.Diff(before, k.outlives()); diff != "" {
		t.Errorf("processes: -before +after:\n%s", diff)
	}
	slow.end(t)
	l.end(t)
	for _, name := range names {
		if i := k.get(name); i.Status.Restarts != 0 || i.Status.Machine != name+"-1" {
			t.Errorf("%s: %+v", name, i.Status)
		}
	}
	// From now on they are the present daemon's in every respect: each change, and the end.
	k.write("app0.yaml", spec(0, 2))
	k.write("app4.yaml", spec(4, 2)) // in place, where it is a container of NixOS
	k.generation("app0", "2")
	k.generation("app4", "2")
	k.must("restart", "app1")
	k.write("app2.yaml", "# nothing\n")
	k.gone("app2")
	k.ready("app0", "app1", "app3", "app4")
	for _, name := range []string{"app0", "app1", "app3", "app4"} {
		k.mustServe(name + ".test")
		if got := k.mustAsk(name, "/sql", "q", "SELECT who FROM visit"); got != name {
			t.Errorf("the database of %s says %q", name, got)
		}
		if got := k.mustAsk(name, "/read", "path", "/data/notes"); got != name {
			t.Errorf("the volume of %s says %q", name, got)
		}
	}
	k.settled()
}
