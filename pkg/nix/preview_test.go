package nix_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tekton.host/pkg/nix"
	"tekton.host/pkg/nix/nixtest"
	"tekton.host/pkg/resource"
)

// configuration is a preview-config.nix whose system serves a word, with more
// of it, as expressions of Nix: what the word is, and attributes beside it.
func configuration(word, more string) string {
	return `{ config, lib, pkgs, ... }:
let meta = { setupService = "setup"; appServices = [ "web" ]; database = "container"; routes = [ ]; };
in {
  systemd.services.web.script = "echo ${` + word + `}";
  system.build.previewMeta = pkgs.writeText "preview-meta.json" (builtins.toJSON meta);
` + more + "}\n"
}

// repository makes a git repository of a flake's directory, below another one.
func repository(t *testing.T, flake string) (ref string) {
	t.Helper()
	dir := filepath.Join(flake, "..", "repository")
	if err := errors.Join(os.CopyFS(dir, os.DirFS(flake)), os.CopyFS(filepath.Join(dir, "nix/previews"), os.DirFS(flake))); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"commit", "-qm", "one"}} {
		nixtest.Run(t, append([]string{"git", "-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.org"}, args...)...)
	}
	return "git+file://" + dir + "?ref=main&dir=nix/previews"
}

func config(text string) func(*resource.Closure) {
	return func(c *resource.Closure) { c.Config = text }
}

// TestPreview: a configuration is built to a system and what it says of itself;
// only of the former something is kept, and as long as somebody asks for it.
func TestPreview(t *testing.T) {
	r := newRig(t)
	flake := repository(t, nixtest.Flake(t, "preview", "")) + "#lib.mkPreview"
	asked := r.put(flake, 1, config(configuration(`"one"`, "")))
	first := r.built(asked).Build.Result
	if want := `{"appServices":["web"],"database":"container","routes":[],"setupService":"setup"}`; first.Meta != want {
		t.Errorf("it says of itself %s", first.Meta)
	}
	unit, err := os.ReadFile(filepath.Join(first.StorePath, "units/web.service"))
	if err != nil || !strings.Contains(string(unit), "Description=web") {
		t.Errorf("unit %s %v", unit, err)
	}
	roots, err := nix.NewRoots(installation).List()
	if len(roots) != 1 || err != nil {
		t.Errorf("kept are %v %v", roots, err)
	}
	nixtest.Collect(t)
	second := r.built(r.put(flake, 2, config(asked.Config))).Build.Result
	if second.StorePath != first.StorePath || second.Meta != first.Meta {
		t.Errorf("then %+v", second)
	}
	// A comment changes nothing of the system, nor does where in a repository the flake is.
	other := r.built(r.put(strings.Replace(flake, "&dir=nix/previews", "", 1), 1, config(asked.Config+"# more\n"))).Build.Result
	if other.StorePath != first.StorePath {
		t.Errorf("another comment gives %s, was %s", other.StorePath, first.StorePath)
	}
}

// TestHostilePreview: a stranger's configuration sees its flake only, and what it
// tries is told. Nothing of the host is in the store afterwards.
func TestHostilePreview(t *testing.T) {
	r := newRig(t)
	flake := "path:" + nixtest.Flake(t, "preview", "") + "#lib.mkPreview"
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "note"), []byte("what only the host knows"), 0o644); err != nil {
		t.Fatal(err)
	}
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { // the evaluator may read it
			t.Fatal(err)
		}
	}
	hash := nixtest.Run(t, "nix", "hash", "path", dir)
	asked := listen(t)
	for name, tt := range map[string]struct{ word, more, reason, says string }{
		"reads":            {word: `builtins.readFile /etc/passwd`, says: "is forbidden in pure eval mode"},
		"reads beside":     {word: `builtins.readFile ../flake.nix`, says: "forbidden in pure eval mode"},
		"environment":      {word: `if builtins.getEnv "HOME" == "" then throw "no environment" else "seen"`, says: "no environment"},
		"copies":           {word: `builtins.readFile (builtins.fetchTree { type = "path"; path = "` + dir + `"; narHash = "` + hash + `"; } + "/note")`, says: dir},
		"copies blindly":   {word: `"${builtins.fetchTree { type = "path"; path = "` + dir + `"; narHash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="; }}"`, says: dir},
		"processes":        {word: `"${builtins.fetchTree { type = "path"; path = "/proc/1"; narHash = "` + hash + `"; }}"`, says: "/proc/1"},
		"through another":  {word: `builtins.readFile (builtins.fetchTree { type = "path"; path = "/proc/` + another(t) + `/root` + dir + `"; narHash = "` + hash + `"; } + "/note")`, says: dir},
		"fetches":          {word: `builtins.readFile (builtins.fetchurl { url = "http://` + asked.addr + `/"; sha256 = "` + strings.Repeat("0", 64) + `"; })`},
		"clones":           {word: `"${builtins.fetchGit { url = "http://` + asked.addr + `/"; rev = "` + strings.Repeat("0", 40) + `"; }}"`},
		"imports":          {word: `import (pkgs.writeText "x" "1")`, says: "import-from-derivation"},
		"endless":          {word: `let f = n: f (n + 1); in toString (f 0)`, says: "stack overflow"},
		"large":            {word: `toString (builtins.length (builtins.genList (n: n) 1000000000))`, says: "out of memory"},
		"long":             {word: `let double = s: n: if n == 0 then s else double (s + s) (n - 1); in double "x" 33`, says: "out of memory"},
		"speaks at length": {word: `throw (builtins.concatStringsSep "" (builtins.genList (_: "flood") 100000))`, says: "error: floodflood"},
		"itself":           {word: `let x = x; in x`, says: "infinite recursion"},
		"no Nix":           {more: "{", says: "preview-config.nix:6:1"},
		"no previewMeta":   {more: "} // { system.build = { };", says: "previewMeta"},
		"meta is a link":   {more: `} // { system.build.previewMeta = pkgs.build "m" { } "ln -s /etc/shadow $out";`, reason: "PreviewMetaInvalid", says: "no regular file"},
		"meta is a folder": {more: `} // { system.build.previewMeta = pkgs.build "m" { } "mkdir $out";`, reason: "PreviewMetaInvalid", says: "no regular file"},
		"meta is large":    {more: `} // { system.build.previewMeta = pkgs.build "m" { } "head -c 70000 /dev/zero >$out";`, reason: "PreviewMetaInvalid", says: "64 KiB"},
		"loads": {
			word:   `pkgs.build "loaded" { outputHash = "` + strings.Repeat("0", 64) + `"; outputHashAlgo = "sha256"; outputHashMode = "flat"; } "wget http://` + asked.addr + `/"`,
			reason: "FetchesWhileBuilding", says: "loaded",
		},
		"fails": {word: `pkgs.build "bad" { } "echo broken; exit 1"`, reason: "BuildFailed"},
	} {
		if tt.word == "" {
			tt.word = `"x"`
		}
		if tt.reason == "" {
			tt.reason = "EvaluationFailed"
		}
		b := r.ended(r.put(flake, 1, config(configuration(tt.word, tt.more)))).Build
		if b.Reason != tt.reason || !strings.Contains(b.Message, tt.says) {
			t.Errorf("%s: %s %s\n%s", name, b.Reason, b.Message, strings.Join(b.Log, "\n"))
		}
	}
	if asked.count() > 0 {
		t.Errorf("the host's network was used %d times", asked.count())
	}
	notes, _ := filepath.Glob("/nix/store/*/note")
	shadows, _ := filepath.Glob("/nix/store/*/shadow")
	if len(notes)+len(shadows) > 0 {
		t.Errorf("files of the host are in the store: %v", append(notes, shadows...))
	}
}

// another is a process of the host that its user's programs may look into.
func another(t *testing.T) (pid string) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return strconv.Itoa(cmd.Process.Pid)
}

// TestFlood: what a stranger's code says while it is evaluated fills nothing.
func TestFlood(t *testing.T) {
	r := newRig(t)
	flake := "path:" + nixtest.Flake(t, "preview", "") + "#lib.mkPreview"
	const flood = `builtins.foldl' (word: _: builtins.trace (builtins.concatStringsSep "" (builtins.genList (_: "flood") 100)) word) "x" (builtins.genList (n: n) 20000)`
	c := r.built(r.put(flake, 1, config(configuration(flood, ""))))
	var size int64
	err := filepath.WalkDir(r.Dir(c.Name()), func(_ string, d os.DirEntry, err error) error {
		info, errInfo := d.Info()
		size += info.Size()
		return errors.Join(err, errInfo)
	})
	if err != nil || size > 6<<20 {
		t.Errorf("its directory has %d bytes (%v)", size, err)
	}
}

// TestPreviewFunction: what the operator's flake must be.
func TestPreviewFunction(t *testing.T) {
	r := newRig(t)
	dir := "path:" + nixtest.Flake(t, "preview", "")
	for attr, says := range map[string]string{"lib.text": "function", "lib.mkNothing": "system.build.previewMeta is not set", "lib.none": "lib.none"} {
		if b := r.ended(r.put(dir+"#"+attr, 1, config(configuration(`"x"`, "")))).Build; b.Reason != "EvaluationFailed" || !strings.Contains(b.Message, says) {
			t.Errorf("%s: %+v", attr, b)
		}
	}
	// Nothing but a deadline ends it.
	slow := configuration(`pkgs.build "slow" { } "sleep 600"`, "")
	c := r.ended(r.put(dir+"#lib.mkPreview", 1, config(slow), func(c *resource.Closure) { c.Deadline = resource.Duration(2 * time.Second) }))
	if c.Build.Reason != "BuildTimeout" {
		t.Errorf("%+v", c.Build)
	}
	r.wantNoSleepers()
	const endless = `let many = builtins.genList (n: n) 100000; over = f: builtins.foldl' (x: _: f x) 0 many; in toString (over (_: over (_: over (x: x))))`
	c = r.ended(r.put(dir+"#lib.mkPreview", 1, config(configuration(endless, "")), func(c *resource.Closure) { c.Deadline = resource.Duration(2 * time.Second) }))
	if c.Build.Reason != "BuildTimeout" || !strings.Contains(c.Build.Message, "evaluating took longer than 2s") {
		t.Errorf("%+v", c.Build)
	}
}

// TestPreviewInputs: a flake's inputs are those of its lock file, and without one it
// is not used.
func TestPreviewInputs(t *testing.T) {
	r := newRig(t)
	base := nixtest.Flake(t, "preview", "")
	dir := filepath.Join(base, "..", "operator")
	text := `{ inputs.base.url = "path:` + base + `"; outputs = { self, base }: { lib.mkPreview = base.lib.mkPreview; }; }`
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
	flake := "path:" + dir + "#lib.mkPreview"
	if b := r.ended(r.put(flake, 1, config(configuration(`"x"`, "")))).Build; b.Reason != "LockFailed" || !strings.Contains(b.Message, "lock file") {
		t.Errorf("without a lock file: %+v", b)
	}
	nixtest.Run(t, "nix", "flake", "lock", "path:"+dir)
	r.built(r.put(flake, 2, config(configuration(`"x"`, ""))))
}

// listener counts who connects.
type listener struct {
	addr string
	hits chan struct{}
}

func (l *listener) count() int { return len(l.hits) }

func listen(t *testing.T) *listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	out := &listener{addr: l.Addr().String(), hits: make(chan struct{}, 100)}
	go func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				out.hits <- struct{}{}
				conn.Close()
			}
		}
	}()
	return out
}
