package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/nix/nixtest"
	"tekton.host/pkg/source/git/gittest"
)

// nixApplication is a repository with a preview-config.nix: a setup that makes a
// page of the commit, and two services, of which one is behind a prefix.
const nixApplication = `{ config, lib, pkgs, ... }:
let
  meta = {
    setupService = "setup-shop";
    seedService = "seed-shop";
    appServices = [ "shop-web" "shop-api" ];
    database = "host";
    routes = [
      { path = "/api/*"; port = 4000; stripPrefix = true; }
      { path = "/"; port = 3000; }
    ];
    hostSecrets = [ "SHOP_KEY" ];
    extraHosts = [ { prefix = "admin"; routes = [ { path = "/"; port = 3000; } ]; } ];
    checkout = true;
  };
  service = script: {
    after = [ "setup-shop.service" ];
    requires = [ "setup-shop.service" ];
    serviceConfig = { User = "preview"; EnvironmentFile = "/etc/preview.env"; };
    inherit script;
  };
in
{
  systemd.services.setup-shop = {
    serviceConfig = { Type = "oneshot"; RemainAfterExit = true; User = "preview"; WorkingDirectory = "~"; };
    script = ''
      set -eu
      if [ -f built ] && [ ! -f /tmp/force-rebuild ]; then
        echo "App already built, skipping setup."
        exit 0
      fi
      rm -f /tmp/force-rebuild
      set -a; . /etc/preview.env; set +a
      echo "setting up $PREVIEW_COMMIT"
      [ ! -f app/broken ]
      case $DATABASE_URL in postgres*) ;; *) exit 2 ;; esac
      echo "$PREVIEW_COMMIT" >>built
      mkdir -p www
      cp app/page www/page
      printf '<p>%s at %s</p>' "$PREVIEW_BRANCH" "$PREVIEW_COMMIT" >www/index.html
    '';
  };
  systemd.services.seed-shop = {
    serviceConfig = { Type = "oneshot"; User = "preview"; EnvironmentFile = "/etc/preview.env"; };
    script = "[ -f $HOME/www/page ] && echo $PREVIEW_COMMIT >>$HOME/seeded";
  };
  systemd.services.shop-web = service ''
    printf '%s' "$PREVIEW_BRANCH" >$HOME/www/branch
    printf '%s' "$SHOP_KEY" >$HOME/www/key
    exec httpd -f -p 3000 -h $HOME/www
  '';
  systemd.services.shop-api = service ''
    mkdir -p $HOME/api
    echo VERSION >$HOME/api/version
    exec httpd -f -p 4000 -h $HOME/api
  '';
  system.build.previewMeta = pkgs.writeText "preview-meta.json" (builtins.toJSON meta);
  environment.etc."preview-meta.json".text = builtins.toJSON meta;
}
`

// shownAt expects a page of a host name.
func (k *tekton) shownAt(host, path, want string) {
	k.t.Helper()
	k.eventually(host+path+" shows "+want, func() error {
		code, page, err := k.through(host, path)
		if err == nil && (code != http.StatusOK || strings.TrimSpace(page) != want) {
			err = fmt.Errorf("it shows %d %q", code, page)
		}
		return err
	})
}

// TestNixPreview is the life of a preview whose system is its repository's own,
// built with real Nix: code only, hostile and failing changes, another closure.
func TestNixPreview(t *testing.T) {
	if form() == "systemd" {
		return // the booted host has no Nix
	}
	conf := nixtest.Store(t)
	flake := nixtest.Flake(t, "preview", "")
	nixtest.Systemd(t, flake)
	r := gittest.New(t)
	srv := gittest.Serve(t, r)
	const branch = `feat/it's-$(id)-"$HOME"`
	push := func(files map[string]string) string {
		id := r.Push(files)
		r.Git("push", "--quiet", "--force", "origin", "HEAD:refs/heads/"+branch)
		return id
	}
	config := strings.ReplaceAll(nixApplication, "VERSION", "one")
	first := push(map[string]string{"preview-config.nix": config, "page": "first"})
	k := prepare(t, "git: {user: nobody}", "previews: {domain: preview.test, nix: {flake: 'path:"+flake+"#lib.mkPreview'}}")
	k.up("NIX_CONF_DIR=" + conf)
	_, err := k.runWith(`s3cr"et $x`, "secret", "set", "shop-test")
	k.check(err)
	if out, err := k.run("preview", "create", srv.Address(), branch, "--name", "shop", "--config", "preview-config.nix", "--grant", "SHOP_KEY=shop-test", "--refresh", "5s"); err != nil {
		t.Fatal(out, err)
	}
	const host = "shop.preview.test"
	k.previewed(host, first)
	k.ready("shop")
	k.shownAt(host, "/api/version", "one")
	k.shownAt("admin-"+host, "/page", "first")
	k.shownAt(host, "/branch", branch) // as systemd reads it
	k.shownAt(host, "/key", `s3cr"et $x`)
	machine := k.get("shop").Status.Machine
	if log, err := k.run("logs", "shop", "--build"); err != nil || !strings.Contains(log, "preview-system") {
		t.Errorf("log of the build: %v\n%s", err, log)
	}

	// Code only: set up again in the same machine, over a change that fails.
	push(map[string]string{"page": "second", "broken": "yes"})
	k.condition("shop", v1alpha1.ConditionSetUp, "SetupFailed")
	k.shownAt(host, "/page", "first")
	second := push(map[string]string{"page": "third", "broken": ""})
	k.previewed(host, second)
	k.ready("shop")
	k.shownAt(host, "/page", "third")
	if got := k.get("shop").Status.Machine; got != machine {
		t.Errorf("the machine is %s, was %s", got, machine)
	}
	if said := k.must("preview", "logs", "shop"); !strings.Contains(said, "setting up "+second) {
		t.Errorf("its log:\n%s", said)
	}
	// It boots: its log is its journal, where its units write, and not its console.
	if said, console := k.must("logs", "shop"), k.must("logs", "shop", "--console"); !strings.Contains(said, "setting up "+second) || strings.Contains(console, "setting up "+second) {
		t.Errorf("its journal:\n%s\nits console:\n%s", said, console)
	}

	// What a stranger tries is told, and what served serves.
	push(map[string]string{"preview-config.nix": strings.ReplaceAll(nixApplication, "VERSION", "${builtins.readFile /etc/passwd}")})
	if message := k.builtIs("shop", "EvaluationFailed"); !strings.Contains(message, "forbidden in pure eval mode") {
		t.Errorf("message %q", message)
	}
	push(map[string]string{"preview-config.nix": strings.ReplaceAll(nixApplication, "VERSION", "${let f = n: f (n + 1); in f 0}")})
	k.eventually("an endless evaluation is told", func() error {
		if message := k.builtIs("shop", "EvaluationFailed"); !strings.Contains(message, "stack overflow") {
			return errors.New(message)
		}
		return nil
	})
	push(map[string]string{"preview-config.nix": strings.ReplaceAll(nixApplication, "VERSION", `${pkgs.build "bad" { } "echo no such header; exit 1"}`)})
	if message := k.builtIs("shop", "BuildFailed"); !strings.Contains(message, "no such header") {
		t.Errorf("message %q", message)
	}
	push(map[string]string{"preview-config.nix": strings.ReplaceAll(config, `"SHOP_KEY"`, `"OTHER_KEY"`)})
	if c := k.condition("shop", v1alpha1.ConditionConfigured, "ConfigInvalid"); !strings.Contains(c.Message, "hostSecrets[0]: \"OTHER_KEY\" is not granted") {
		t.Errorf("condition %+v", c)
	}
	k.shownAt(host, "/page", "third")

	// Another closure: another machine, with the same home and the same root.
	third := push(map[string]string{"preview-config.nix": strings.ReplaceAll(nixApplication, "VERSION", "two")})
	k.previewed(host, third)
	k.ready("shop")
	k.shownAt(host, "/api/version", "two")
	if got := k.get("shop").Status.Machine; got == machine {
		t.Errorf("the machine is still %s", got)
	}
	if got, want := k.must("exec", "shop", "--", "/bin/cat", v1alpha1.PreviewHome+"/built"), strings.Join([]string{first, second, third}, "\n")+"\n"; got != want {
		t.Errorf("set up in this home were\n%swant\n%s", got, want)
	}
	if got := k.must("exec", "shop", "--", "/bin/cat", v1alpha1.PreviewHome+"/seeded"); got != first+"\n" {
		t.Errorf("seeded for %q, want once for %s", got, first)
	}
	nixtest.Collect(t)
	_, err = k.run("restart", "shop")
	k.check(err) // its setup skips what is built
	k.ready("shop")
	k.shownAt(host, "/api/version", "two")

	k.must("preview", "destroy", "shop")
	k.gone("shop")
	k.eventually("nothing is left", func() error {
		if left, _ := filepath.Glob("/nix/var/nix/gcroots/tekton-*"); len(left) > 0 {
			return fmt.Errorf("GC roots %v", left)
		}
		return k.nothingLeft()
	})
	k.noBuilds(0)
}
