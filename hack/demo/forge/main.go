// Forge is the one of the demo: that of our tests behind an address, with git
// beside its API. What its people do is asked for by POST /demo/open, /demo/push
// and /demo/close, each of which it tells its webhook; GET /demo/comment is what
// their pull request was told.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"tekton.host/pkg/forge"
	"tekton.host/pkg/forge/forgetest"
)

// shop is the repository, whose only pull request is the first.
var shop = forge.Repository{Owner: "team", Name: "shop"}

const number = 1

// hub is the forge, with the clone of somebody who works on the pull request.
type hub struct {
	api         *forgetest.Server
	bare, clone string
}

func main() {
	dir := flag.String("dir", "", "directory with the application in app, and the files token and secret")
	listen := flag.String("listen", "", "address")
	hook := flag.String("hook", "", "URL that deliveries go to")
	flag.Parse()
	fmt.Fprintln(os.Stderr, "forge:", run(*dir, *listen, *hook))
	os.Exit(1)
}

func run(dir, listen, hook string) error {
	token, err := os.ReadFile(filepath.Join(dir, "token"))
	secret, errSecret := os.ReadFile(filepath.Join(dir, "secret"))
	if err := errors.Join(err, errSecret); err != nil {
		return err
	}
	h := &hub{api: forgetest.New(), bare: filepath.Join(dir, shop.String()+".git"), clone: filepath.Join(dir, "app")}
	h.api.AddRepository(shop)
	h.api.AddToken(string(token), "tekton-bot")
	h.api.AddHook(forgetest.Hook{URL: hook, Secret: string(secret)})
	if err := h.begin(); err != nil {
		return err
	}
	return h.serve(dir, listen)
}

// begin makes the repository of the application.
func (h *hub) begin() error {
	_, err := h.git("init", "--quiet", "--bare", h.bare)
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "--all"}, {"commit", "--quiet", "--message", "notes"}, {"push", "--quiet", h.bare, "HEAD:refs/heads/main"}} {
		if err == nil {
			_, err = h.git(args...)
		}
	}
	return err
}

func (h *hub) serve(dir, address string) error {
	mux := http.NewServeMux()
	mux.Handle("/"+shop.String()+".git/", &cgi.Handler{
		Path: "/usr/lib/git-core/git-http-backend", Root: "/", Dir: "/", Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"},
	})
	mux.HandleFunc("GET /demo/comment", h.comment)
	mux.HandleFunc("POST /demo/{step}", h.step)
	mux.Handle("/", h.api)
	return http.ListenAndServe(address, mux)
}

// comment is the one that the pull request has.
func (h *hub) comment(w http.ResponseWriter, _ *http.Request) {
	for _, c := range h.api.Comments(shop, number) {
		io.WriteString(w, c.Body)
	}
}

// step has something happen, and tells of it. It answers with the commit.
func (h *hub) step(w http.ResponseWriter, r *http.Request) {
	commit, err := h.commit()
	switch step := r.PathValue("step"); {
	case err != nil:
	case step == "open":
		h.api.Open(shop, forge.PullRequest{Base: "main", Branch: "change", Commit: commit, Author: "ann"})
	case step == "push":
		h.api.Push(shop, number, commit)
	case step == "close":
		h.api.Close(shop, number)
	}
	for _, d := range h.api.Deliveries() {
		status, sent := d.Send(r.Context())
		if sent == nil && status/100 != 2 {
			sent = fmt.Errorf("the webhook answers %d", status)
		}
		err = errors.Join(err, sent)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	io.WriteString(w, commit)
}

// commit has the pull request be what is in the clone.
func (h *hub) commit() (string, error) {
	changed, err := h.git("status", "--short")
	if err == nil && changed != "" {
		_, err = h.git("commit", "--quiet", "--all", "--message", "change")
	}
	if err == nil {
		_, err = h.git("push", "--quiet", h.bare, fmt.Sprintf("HEAD:refs/pull/%d/head", number))
	}
	if err != nil {
		return "", err
	}
	return h.git("rev-parse", "HEAD")
}

// git runs in the clone, without anybody's configuration.
func (h *hub) git(args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"-C", h.clone}, args...)...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.org", "GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.org",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
