package e2e_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tekton.host/pkg/nix/nixtest"
	"tekton.host/pkg/supervise/supervisetest"
	"tekton.host/test/systemdhost"
)

// userlandExpression makes of a tree with programs and their libraries what a
// NixOS host's system is to its programs: a profile of links and wrappers, each
// program with the loader and the libraries of its own store path.
const userlandExpression = `{ tree }:
let
  make = name: attributes: script: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    args = [ "-ec" script ];
  } // attributes);
  sw = make "system-path" { inherit tree; } ''
    mkdir -p $out/bin $out/lib $out/share
    for program in $tree/bin/*; do ln -s $program $out/bin/; done
    for program in $tree/libexec/*; do
      name=$(basename $program)
      printf '#!%s\nexec %s --library-path %s %s "$@"\n' \
        $tree/bin/sh $tree/lib/loader $tree/lib $program >$out/bin/$name
      chmod +x $out/bin/$name
    done
  '';
in
make "nixos-system" { inherit sw; } "mkdir $out; ln -s $sw $out/sw"
`

// userland builds the system of a host whose programs are those that the
// quickstart's applications use: sh, python3 and psql.
func (k *tekton) userland() (system string) {
	k.t.Helper()
	supervisetest.Root(k.t, "busybox", "ldd", "python3", "psql")
	psql, err := filepath.Glob("/usr/lib/postgresql/*/bin/psql")
	k.check(err)
	const python = "/usr/bin/python3"
	library := strings.TrimSpace(mustRun(k.t, python, "-c", "import os; print(os.path.dirname(os.__file__))"))
	tree := k.path("tree")
	k.tree(tree, library, map[string]string{"python3": python, "psql": psql[len(psql)-1]})
	file := k.path("userland.nix")
	k.check(os.WriteFile(file, []byte(userlandExpression), 0o644))
	return nixtest.Run(k.t, "nix-build", "--no-out-link", "--option", "sandbox", "false", file, "--arg", "tree", tree)
}

// tree has programs with their libraries, and a shell with its tools.
func (k *tekton) tree(tree, python string, programs map[string]string) {
	k.t.Helper()
	for _, dir := range []string{"bin", "lib", "libexec"} {
		k.check(os.MkdirAll(filepath.Join(tree, dir), 0o755))
	}
	mustRun(k.t, "cp", "/usr/bin/busybox", filepath.Join(tree, "bin"))
	for _, applet := range []string{"sh", "mkdir", "hostname", "ls", "ps"} {
		k.check(os.Symlink("busybox", filepath.Join(tree, "bin", applet)))
	}
	objects := []string{}
	for name, program := range programs {
		mustRun(k.t, "cp", "--dereference", program, filepath.Join(tree, "libexec", name))
		objects = append(objects, program)
	}
	// Python's own files, without its tests and tools for builds; it finds them
	// beside its libraries.
	mustRun(k.t, "cp", "-a", python, filepath.Join(tree, "lib"))
	copied := filepath.Join(tree, "lib", filepath.Base(python))
	for _, dir := range []string{"test", "idlelib", "lib2to3", "ensurepip", "tkinter", "turtledemo", "dist-packages", "site-packages"} {
		k.check(os.RemoveAll(filepath.Join(copied, dir)))
	}
	k.check(filepath.WalkDir(copied, func(path string, d fs.DirEntry, err error) error {
		if info, statErr := os.Stat(path); statErr != nil { // a link to what Debian configures
			return os.Remove(path)
		} else if strings.HasSuffix(path, ".so") {
			objects = append(objects, path)
		} else if d.Type()&fs.ModeSymlink != 0 && info.Mode().IsRegular() {
			return os.Remove(path)
		}
		return err
	}))
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\s(?:\S+ => )?(/\S+) \(0x`).FindAllStringSubmatch(output(append([]string{"ldd"}, objects...)...), -1) {
		name := filepath.Base(m[1])
		if strings.HasPrefix(name, "ld-linux") {
			name = "loader"
		}
		if !seen[name] {
			seen[name] = true
			mustRun(k.t, "cp", "--dereference", m[1], filepath.Join(tree, "lib", name))
		}
	}
}

// TestQuickstartOnNixOS runs the README's applications on a host with NixOS's
// layout: their userland comes out of /run/current-system and a store, and there
// is no other.
func TestQuickstartOnNixOS(t *testing.T) {
	if systemdhost.Inside() {
		return // /run is the host's own there
	}
	nixosHost(t)
	k := prepare(t)
	k.activate(k.userland())
	k.up()
	files, err := filepath.Glob("../../examples/quickstart/*.yaml")
	k.check(err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		k.check(err)
		k.write(filepath.Base(f), string(b))
	}
	k.ready("hello", "shop", "shop-api", "guestbook")
	for where, want := range map[string]string{
		"hello.localhost/": "<h1>Hello from hello</h1>", "shop.localhost/": "<h1>Shop</h1>", "shop.localhost/api/prices.json": `"machine": "shop-api"`, "guestbook.localhost/": "<h1>Guestbook</h1>",
	} {
		host, path, _ := strings.Cut(where, "/")
		if code, body, err := k.through(host, "/"+path); err != nil || code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q %v", where, code, body, err)
		}
	}
	// It is not the tests' own userland that they run on.
	for path, there := range map[string]bool{"/bin/python3": true, "/usr/bin/psql": true, "/usr/bin/env": false, "/usr/lib/postgresql": false, "/lib64": false} {
		if _, err := k.run("exec", "hello", "--", "ls", path); (err == nil) != there {
			t.Errorf("%s is there: %v, want %v", path, err == nil, there)
		}
	}
	req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/", k.httpPort()), strings.NewReader(url.Values{"text": {"signed in a test"}}.Encode()))
	k.check(err)
	req.Host = "guestbook.localhost"
	resp, err := web.Transport.RoundTrip(req) // not to where it leads
	k.check(err)
	resp.Body.Close()
	if code, body, err := k.through("guestbook.localhost", "/"); err != nil || resp.StatusCode != http.StatusSeeOther || !strings.Contains(body, "<li>signed in a test</li>") {
		t.Errorf("after a signature (%d): %d %q %v", resp.StatusCode, code, body, err)
	}
}
