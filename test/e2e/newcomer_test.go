package e2e_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tekton.host/pkg/supervise/supervisetest"
	"tekton.host/test/systemdhost"
)

// newcomer is a person at the terminal of an empty Debian host, who does what a
// page says, line by line.
type newcomer struct {
	*server
	page string
}

// block is a piece of a page between fences: commands, and what they say at the
// end where the next block shows that.
type block struct{ language, text, says string }

var fence = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")

// blocks of a page, or of one section of it.
func (n *newcomer) blocks(page, section string) []block {
	n.t.Helper()
	n.page = page
	text, err := os.ReadFile(filepath.Join("../..", page))
	n.check(err)
	part := string(text)
	if section != "" {
		_, part, _ = strings.Cut(part, "\n## "+section+"\n")
		part, _, _ = strings.Cut(part, "\n## ")
	}
	var all []block
	for _, m := range fence.FindAllStringSubmatch(part, -1) {
		if m[1] == "text" {
			all[len(all)-1].says = m[2]
			continue
		}
		all = append(all, block{language: m[1], text: m[2]})
	}
	if len(all) == 0 {
		n.t.Fatalf("%s has no block in section %q", page, section)
	}
	return all
}

// terminal goes on where the block before has left. A plan with changes is no
// failure of the person who asked for it.
const terminal = `exec 2>&1 </dev/null
cd "$(cat /data/at)"; trap 'pwd >/data/at' EXIT
tekton() { local code=0; command tekton "$@" || code=$?; [ "$1 $code" = "plan 2" ] || return $code; }
`

// do runs the commands of a block. What a page shows of their output must come;
// where it shows nothing, none of them may fail.
func (n *newcomer) do(b block) string {
	n.t.Helper()
	flags := "-euo"
	if b.says != "" {
		flags = "-uo"
	}
	ctx, cancel := context.WithTimeout(n.t.Context(), 2*patience)
	defer cancel()
	out, err := n.host.Run(ctx, "env", "--chdir=/", "bash", flags, "pipefail", "-c", terminal+b.text)
	switch {
	case b.says != "" && !strings.HasSuffix(out, b.says):
		n.t.Fatalf("%s: the commands\n%ssaid\n%sand not, at the end,\n%s", n.page, b.text, out, b.says)
	case b.says == "" && err != nil:
		n.t.Fatalf("%s: the commands\n%ssaid\n%s%v", n.page, b.text, out, err)
	}
	return out
}

// read does what a page says: files are written, commands run.
func (n *newcomer) read(page, section string) (said string) {
	n.t.Helper()
	for _, b := range n.blocks(page, section) {
		switch name, isFile := strings.CutPrefix(b.text, "# "); {
		case b.language == "sh":
			said += n.do(b)
		case isFile:
			name, _, _ = strings.Cut(name, "\n")
			said += n.do(block{text: "cat >" + name + " <<'THE END'\n" + b.text + "THE END\n"})
		}
	}
	return said
}

// TestNewcomer begins with an empty host and a clean clone, and comes by the
// README and docs/getting-started.md, as they stand, to an application with a
// route, a database and a secret, and away again.
func TestNewcomer(t *testing.T) {
	supervisetest.Root(t, "systemd-nspawn", "git")
	if systemdhost.Inside() {
		return // it boots a host
	}
	t.Parallel()
	// What machines see of the host lies on a real file system there.
	clone, state, srv := t.TempDir(), t.TempDir(), t.TempDir()
	for dir, mode := range map[string]os.FileMode{state: 0o711, srv: 0o755} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	n := &newcomer{server: &server{&tekton{t: t}, nil}}
	n.clone(clone)
	n.host = systemdhost.Boot(t, systemdhost.Options{Binds: []systemdhost.Bind{
		{Source: clone, Target: "/root/tekton", ReadOnly: true}, {Source: state, Target: "/var/lib/tekton"}, {Source: srv, Target: "/srv"},
	}})
	dir, err := programs()
	n.check(err)
	commands, err := filepath.Glob("../../cmd/*")
	n.check(err)
	for _, c := range commands {
		n.check(n.host.Copy(filepath.Join(dir, filepath.Base(c)), "/data/bin/"+filepath.Base(c)))
	}
	n.inside("sh", "-c", "echo /root/tekton >/data/at")

	// The host has the packages, of another Debian than ours, and neither Go nor a way to fetch modules: it gets what was built.
	installing := n.blocks("README.md", "Install")
	installed := installing[len(installing)-1]
	const build = "\nmake build install "
	if !strings.HasPrefix(installed.text, "hack/deps.sh host ") || !strings.Contains(installed.text, build) {
		t.Fatalf("README.md installs with\n%s", installed.text)
	}
	installed.text = strings.Replace(installed.text, build, "\nBIN=/data/bin hack/install.sh ", 1)
	n.do(installed)
	n.inside("sh", "-c", "mkdir /root/first && echo /root/first >/data/at")
	for _, page := range []struct {
		name, section string
		says          []string
	}{
		{"README.md", "A first spec", []string{"1 object in 1 file: valid", "Directory listing", "hello is Ready"}},
		{"docs/getting-started.md", "", []string{"noted", "notes-token", "http://notes.localhost/", "notes is Ready"}},
	} {
		said := n.read(page.name, page.section)
		t.Log(said)
		for _, want := range page.says {
			if !strings.Contains(said, want) {
				t.Errorf("%s: nothing says %q", page.name, want)
			}
		}
	}
	if left := n.inside("tekton", "get", "-o", "name"); left != "" {
		t.Errorf("left: %s", left)
	}
}

// clone copies what a clone of the repository would have.
func (n *newcomer) clone(to string) {
	n.t.Helper()
	list := exec.Command("git", "-C", "../..", "ls-files", "-z")
	pack := exec.Command("tar", "-C", "../..", "--null", "--files-from=-", "-cf", "-")
	var names, packed bytes.Buffer
	list.Stdout = &names
	n.check(list.Run())
	pack.Stdin, pack.Stdout = &names, &packed
	n.check(pack.Run())
	unpack := exec.Command("tar", "-C", to, "-xf", "-")
	unpack.Stdin = &packed
	out, err := unpack.CombinedOutput()
	if err != nil {
		n.t.Fatalf("%v: %s", err, out)
	}
}
