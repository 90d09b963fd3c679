package repo

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tekton.host/pkg/webhook"
)

// TestUnitsConfineAlike: the unit of the packages and that of the NixOS module
// confine a process beside the daemon alike.
func TestUnitsConfineAlike(t *testing.T) {
	for _, name := range []string{"webhook", "status"} {
		unit, module := readText(t, "packaging/tekton-"+name+".service"), readText(t, "nix/module/"+name+".nix")
		_, confined, _ := strings.Cut(unit, "LoadCredential=")
		_, confined, _ = strings.Cut(confined, "\n")
		confined, _, _ = strings.Cut(confined, "[Install]")
		var want []string
		for line := range strings.Lines(confined) {
			key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if value == "yes" {
				value = "true"
			}
			if ok {
				want = append(want, key+" = "+value)
			}
		}
		_, confined, _ = strings.Cut(module, "a test compares the two.\n")
		confined, _, _ = strings.Cut(confined, "}")
		var got []string
		for line := range strings.Lines(confined) {
			if line = strings.TrimSuffix(strings.ReplaceAll(strings.TrimSpace(line), `"`, ""), ";"); line != "" {
				got = append(got, line)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if len(want) < 20 || !slices.Equal(want, got) {
			t.Errorf("%s: the package says\n%s\nthe module says\n%s", name, strings.Join(want, "\n"), strings.Join(got, "\n"))
		}
	}
}

func readText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestWebhookConfigurations: the sample, and those of the page, are right.
func TestWebhookConfigurations(t *testing.T) {
	texts := []string{readText(t, "packaging/webhook.yaml")}
	for _, block := range regexp.MustCompile("(?s)```yaml\n# /etc/tekton/webhook.yaml\n(.*?)```").FindAllStringSubmatch(readText(t, "docs/webhook.md"), -1) {
		texts = append(texts, block[1])
	}
	if len(texts) < 3 {
		t.Errorf("only %d configurations", len(texts))
	}
	for _, text := range texts {
		file := filepath.Join(t.TempDir(), "webhook.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := webhook.LoadConfig(file); err != nil {
			t.Errorf("%v in:\n%s", err, text)
		}
	}
}

// TestExampleHostsWebhook: the example host's webhook has a configuration that
// is right, and a Caddy in front of it that leads there.
func TestExampleHostsWebhook(t *testing.T) {
	var example struct {
		Webhook struct {
			Settings    json.RawMessage
			Credentials map[string]string
		}
		Caddy struct{ GlobalConfig, ExtraConfig string }
	}
	nixEval(t, `let s = (import ./nix/hosts/example.nix { }).services; in { inherit (s.tekton) webhook; inherit (s) caddy; }`, &example)
	dir := t.TempDir()
	file, caddyfile := filepath.Join(dir, "webhook.yaml"), filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, example.Webhook.Settings, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := webhook.LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	f := c.Forges[0]
	for _, path := range append(f.SecretFiles, f.App.KeyFile) {
		if name := filepath.Base(path); example.Webhook.Credentials[name] == "" {
			t.Errorf("the secret %s is not among %v", name, example.Webhook.Credentials)
		}
	}
	if err := os.WriteFile(caddyfile, []byte("{\n"+example.Caddy.GlobalConfig+"\n}\n"+example.Caddy.ExtraConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	needs(t, "caddy")
	adapted := run(t, "caddy", "adapt", "--config", caddyfile, "--adapter", "caddyfile")
	for _, want := range []string{`"listen":[":8443"]`, `"host":["webhook.example.org"]`, `"path":["/webhook/*"]`, `"dial":"` + c.Listen + `"`, `"disable_redirects":true`} {
		if !strings.Contains(adapted, want) {
			t.Errorf("no %s in:\n%s", want, adapted)
		}
	}
}

// TestWebhookCheck: the check that the page has is given what the unit gives.
func TestWebhookCheck(t *testing.T) {
	unit := readText(t, "packaging/tekton-webhook.service")
	_, check, _ := strings.Cut(readText(t, "docs/webhook.md"), "systemd-run ")
	check, _, _ = strings.Cut(check, "```")
	for _, setting := range []string{"User", "StateDirectory", "LoadCredential"} {
		line := regexp.MustCompile("(?m)^" + setting + "=.*$").FindString(unit)
		if line == "" || !strings.Contains(check, `-p "`+line+`"`) && !strings.Contains(check, "-p "+line+" ") {
			t.Errorf("%q of the unit is not in the check of docs/webhook.md:\n%s", line, check)
		}
	}
}
