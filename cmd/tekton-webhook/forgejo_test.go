package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tekton.host/pkg/forge"
	"tekton.host/pkg/forge/forgetest"
)

// TestForgejo: what Forgejo and Gitea deliver of a pull request does what GitHub's
// deliveries do: open, push, comment, close, open again.
func TestForgejo(t *testing.T) {
	r := newRig(t)
	config, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	r.write("webhook.yaml", strings.Replace(string(config), "type: github", "type: forgejo", 1), 0o644)
	r.forge.Grant(r.shop, "tekton-bot", "admin")
	r.forge.Grant(r.shop, "ann", "write")
	r.forge.AddHook(forgetest.Hook{URL: "http://" + r.listen + "/webhook/github", Secret: "hush hush", Forgejo: true})
	r.forge.Deliveries() // no ping: Forgejo sends none by itself
	r.start()
	step := func(what, want string, change func()) {
		t.Helper()
		change()
		for _, d := range r.forge.Deliveries() { // also of our own comment
			if status, err := d.Send(t.Context()); err != nil || status != http.StatusAccepted || d.Header.Get("X-Forgejo-Event") == "" {
				t.Fatalf("%s: %d %v to %v", what, status, err, d.Header)
			}
		}
		r.until(what, func() bool {
			spec, err := os.ReadFile(filepath.Join(r.dir, "specs", "shop.1.yaml"))
			return err == nil && strings.Contains(string(spec), want)
		})
	}
	one, two := strings.Repeat("a", 40), strings.Repeat("b", 40)
	step("opened", "commit: "+one, func() {
		r.forge.Open(r.shop, forge.PullRequest{Base: "main", Branch: "b", Commit: one, Author: "ann"})
	})
	step("pushed to", "commit: "+two, func() { r.forge.Push(r.shop, 1, two) })
	step("commanded", "rebuild: 1", func() { r.forge.Say(r.shop, 1, "ann", "/preview rebuild") })
	step("closed", "tekton-webhook has removed the preview", func() { r.forge.Close(r.shop, 1) })
	r.until("its end is told", func() bool {
		for _, c := range r.forge.Comments(r.shop, 1) {
			if c.Author == "tekton-bot" && strings.Contains(c.Body, "**No preview**") {
				return true
			}
		}
		return false
	})
	step("opened again", "commit: "+two, func() { r.forge.Reopen(r.shop, 1) })
	if n := r.comments(); n != 2 { // ann's, and the one that is edited
		t.Errorf("%d comments", n)
	}
}
