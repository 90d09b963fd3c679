package git

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tekton.host/pkg/source/git/gittest"
)

// TestSSH: the pinned host key and the key from the file, nothing else.
func TestSSH(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	srv := gittest.ServeSSH(t, r)
	o, _ := options(t, srv.Address)
	o.SSHKeyFile, o.KnownHostsFile = srv.KeyFile, srv.KnownHostsFile
	s := open(t, o)
	r.Push(map[string]string{"a.yaml": doc("a")})
	good(t, s, "a")
	r.Push(map[string]string{"b.yaml": doc("b")})
	good(t, s, "a", "b")

	addr := strings.SplitN(strings.SplitN(srv.Address, "@", 2)[1], "/", 2)[0]
	r.Push(map[string]string{"c.yaml": doc("c")})
	srv.Known(t, "key.pub", addr)
	refused(t, s, "Host key verification failed", "a", "b")
	if err := os.WriteFile(srv.KnownHostsFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, s, "Host key verification failed", "a", "b")
	srv.Known(t, "host.pub", addr)
	o.SSHKeyFile = filepath.Join(gittest.Dir(t), "other")
	gittest.Key(t, o.SSHKeyFile)
	refused(t, open(t, o), "Permission denied", "a", "b")
	good(t, s, "a", "b", "c")
}

// TestToken: the token reaches the server and no other place.
func TestToken(t *testing.T) {
	t.Parallel()
	const token = "t0ken-that-nobody-may-see"
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("git:"+token))
	r := gittest.New(t)
	srv := gittest.Serve(t, r)
	var seen []string
	srv.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		cmdlines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		environs, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, f := range append(cmdlines, environs...) {
			if text, err := os.ReadFile(f); err == nil && (strings.Contains(string(text), token) || strings.Contains(string(text), want[6:])) {
				seen = append(seen, f+": "+string(text))
			}
		}
		if req.Header.Get("Authorization") == want {
			return false
		}
		// What a server sends back is repeated nowhere either.
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "no entry with %s %s\n", token, req.Header.Get("Authorization"))
		return true
	})
	o, _ := options(t, srv.Address())
	o.TokenFile, o.Username = filepath.Join(gittest.Dir(t), "token"), "git"
	write := func(token string) {
		if err := os.WriteFile(o.TokenFile, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(token)
	s := open(t, o)
	r.Push(map[string]string{"a.yaml": doc("a")})
	good(t, s, "a")
	write("wrong")
	refused(t, s, "403", "a")
	write(token) // rotated without a restart
	o.Username = "other"
	_, err := look(t, open(t, o))
	if err == nil || strings.Contains(err.Error(), token) || strings.Contains(err.Error(), want[6:]) {
		t.Errorf("an error repeats the token, or there is none: %v", err)
	}
	r.Push(map[string]string{"b.yaml": doc("b")})
	good(t, s, "a", "b")
	if len(seen) > 0 {
		t.Errorf("the token was seen in %q", seen)
	}
	found, _ := exec.Command("grep", "-rlF", "-e", token, "-e", want[6:], o.Dir, filepath.Dir(o.RunDir)).Output()
	if len(found) > 0 {
		t.Errorf("the token is kept in %s", found)
	}
}

// TestVerify: only the commits of allowed signers are used.
func TestVerify(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	keys := gittest.Dir(t)
	for _, name := range []string{"alice", "mallory"} {
		gittest.Key(t, filepath.Join(keys, name))
	}
	public, err := os.ReadFile(filepath.Join(keys, "alice.pub"))
	if err != nil {
		t.Fatal(err)
	}
	o, _ := options(t, gittest.Serve(t, r).Address())
	o.AllowedSignersFile = filepath.Join(keys, "allowed")
	if err := os.WriteFile(o.AllowedSignersFile, []byte("alice@example.org "+string(public)), 0o600); err != nil {
		t.Fatal(err)
	}
	sign := func(who string, files ...string) string {
		for _, f := range files {
			r.Write(f+".yaml", doc(f))
		}
		r.Git("-c", "gpg.format=ssh", "-c", "user.signingKey="+filepath.Join(keys, who), "commit", "--quiet", "--allow-empty", "-S", "-m", who)
		r.Git("push", "--quiet", "--force", "origin", "HEAD:main")
		return r.Git("rev-parse", "HEAD")
	}
	s := open(t, o)
	r.Push(map[string]string{"a.yaml": doc("a")})
	if snap := refused(t, s, "no signature of an allowed signer"); snap.Complete {
		t.Error("an unsigned commit is in effect")
	}
	first := sign("alice")
	good(t, s, "a")
	evil := r.Push(map[string]string{"evil.yaml": doc("evil")})
	refused(t, s, "no signature of an allowed signer", "a")
	r.Git("reset", "--quiet", "--hard", first)
	r.Write("evil.yaml", doc("evil"))
	r.Git("add", "--all")
	sign("mallory")
	refused(t, s, "No principal matched", "a")
	if st := s.Status(); st.Commit != first || st.Rejected == "" || st.Rejected == evil {
		t.Errorf("status %+v", st)
	}
	sign("alice")
	good(t, s, "a", "evil")
	// A signer who is struck from the list vouches for nothing any more: nobody
	// knows what is wanted then, and nothing is deleted.
	if err := os.WriteFile(o.AllowedSignersFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if snap := open(t, o).Snapshot(t.Context()); snap.Err == nil || snap.Complete {
		t.Errorf("without any allowed signer: %+v", snap)
	}
}

// TestRedirect: an answer that leads elsewhere is not followed, with or without
// a token.
func TestRedirect(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	elsewhere := gittest.Serve(t, r)
	r.Push(map[string]string{"a.yaml": doc("a")})
	srv := gittest.Serve(t, r)
	srv.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		http.Redirect(w, req, elsewhere.URL+req.URL.String(), http.StatusFound)
		return true
	})
	o, _ := options(t, srv.Address())
	refused(t, open(t, o), "302")
	if n := elsewhere.Requests.Load(); n > 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}

// TestEnvironment: nothing in our own environment or in anybody's configuration
// reaches git.
func TestEnvironment(t *testing.T) {
	home := gittest.Dir(t)
	ran := filepath.Join(home, "ran")
	program := filepath.Join(home, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	config := "[core]\n\tsshCommand = " + program + "\n\taskPass = " + program + "\n\tfsmonitor = " + program + "\n\thooksPath = " + home +
		"\n[credential]\n\thelper = !" + program + "\n[url \"http://127.0.0.1:1/\"]\n\tinsteadOf = http://\n"
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(home, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, filepath.Join(home, "reference-transaction")); err != nil {
		t.Fatal(err)
	}
	r := gittest.New(t)
	srv, web := gittest.ServeSSH(t, r), gittest.Serve(t, r)
	r.Push(map[string]string{"a.yaml": doc("a")})
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", home)
	t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(home, ".gitconfig"))
	t.Setenv("GIT_DIR", home)
	t.Setenv("GIT_EXEC_PATH", home)
	t.Setenv("GIT_OBJECT_DIRECTORY", home)
	for _, name := range []string{"GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "SSH_ASKPASS", "GIT_PROXY_COMMAND", "GIT_EXTERNAL_DIFF", "GIT_PAGER", "LD_PRELOAD"} {
		t.Setenv(name, program)
	}
	t.Setenv("LD_PRELOAD", "")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	o, _ := options(t, web.Address())
	good(t, open(t, o), "a")
	o, _ = options(t, srv.Address)
	o.SSHKeyFile, o.KnownHostsFile = srv.KeyFile, srv.KnownHostsFile
	good(t, open(t, o), "a")
	// With the token refused git would like to ask somebody.
	web.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("WWW-Authenticate", "Basic realm=x")
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	o, _ = options(t, web.Address())
	refused(t, open(t, o), "check git.url, git.auth")
	if _, err := os.Lstat(ran); err == nil {
		t.Error("a program of the environment ran")
	}
}

// TestUser: git runs as its own user and can write nothing but the mirror.
func TestUser(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	o, _ := options(t, gittest.Serve(t, r).Address())
	r.Push(map[string]string{"a.yaml": doc("a")})
	good(t, open(t, o), "a")
	if os.Geteuid() != 0 {
		return
	}
	out, err := exec.Command("find", o.Dir, "!", "-user", "nobody").Output()
	if err != nil || len(out) > 0 {
		t.Errorf("not of git's user: %s %v", out, err)
	}
	o.User = "nobody-of-this-name"
	refused(t, open(t, o), "spec.git.user")
	o.User = "root"
	refused(t, open(t, o), "is root")
}
