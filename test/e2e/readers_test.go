package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
)

// asNobody runs the command line tool on a socket as a user who is nobody but for
// the group that may read.
func (k *tekton) asNobody(socket string, args ...string) (string, error) {
	cmd := exec.Command(k.path("tekton"), append([]string{"--socket", k.path("run", socket)}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%w: %s", err, &stderr)
	}
	return stdout.String(), nil
}

// TestPreviewsOfOthers: who may write to a narrow source and use the readers'
// socket, and nothing else, has previews of the operator's Repositories; what
// these are given he cannot say, and nothing else he can ask.
func TestPreviewsOfOthers(t *testing.T) {
	k := prepare(t)
	hook := k.path("hook")
	k.check(os.Mkdir(hook, 0o755))
	k.check(os.Chown(hook, nobody, nobody))
	program, err := os.ReadFile(filepath.Join(k.programs, "tekton"))
	k.check(err)
	k.check(os.WriteFile(k.path("tekton"), program, 0o755)) // where anybody may execute it
	k.extra = fmt.Sprintf(`readSocketGroup: nogroup
  git: {user: nobody}
  previews: {domain: preview.test}
  sources:
  - {name: local, path: %s}
  - {name: hook, path: %s, allow: {kinds: [Preview], repositories: [shop], domains: ["*.preview.test"], maxObjects: 2}}`, k.specs(), hook)
	k.writeConfig()
	k.up()
	preview := func(name, spec string) {
		t.Helper()
		file := filepath.Join(hook, name+".yaml")
		k.check(os.WriteFile(file, []byte("apiVersion: tekton.host/v1alpha1\nkind: Preview\nmetadata: {name: "+name+"}\nspec:\n  "+spec+"\n"), 0o644))
		k.check(os.Chown(file, nobody, nobody))
	}
	preview("shop-7", "repository: {name: shop}\n  pullRequest: 7")
	k.condition("shop-7", v1alpha1.ConditionReady, "RepositoryMissing")
	k.write("shop.yaml", "apiVersion: tekton.host/v1alpha1\nkind: Repository\nmetadata: {name: shop}\nspec:\n  url: https://git.example.test/shop.git\n  secret: shop-token\n  preview: {grants: {secrets: [{name: KEY}]}, resources: {tasksMax: 100}}\n")
	k.condition("shop-7", v1alpha1.ConditionSecretsReady, "SecretMissing")
	if out := k.must("get", "repository/shop", "-o", "json"); !strings.Contains(out, `"previews": 1`) || !strings.Contains(out, `"Ready"`) {
		t.Errorf("the Repository is %s", out)
	}
	if out, err := k.asNobody("read.sock", "get", "shop-7", "-o", "yaml"); err != nil || !strings.Contains(out, "secret: shop-token") || !strings.Contains(out, "host: shop-7.preview.test") {
		t.Errorf("a reader is shown %s, %v", out, err)
	}

	for name, spec := range map[string]string{
		"granted": "repository: {name: shop}\n  pullRequest: 8\n  grants: {secrets: [{name: OTHER}]}",
		"other":   "repository: {name: other}\n  pullRequest: 8",
		"any":     "repository: {url: \"https://git.example.test/shop.git\"}\n  pullRequest: 8",
		"outside": "repository: {name: shop}\n  pullRequest: 8\n  host: www.example.test",
	} {
		preview(name, spec)
		k.eventually(name+" is refused", func() error {
			i, err := k.item(name)
			if err == nil && i.Status.Phase != v1alpha1.PhaseRejected {
				err = fmt.Errorf("it is %s", i.Status.Phase)
			}
			return err
		})
	}
	for _, args := range [][]string{
		{"delete", "shop-7"}, {"delete", "repository/shop"}, {"secret", "list"}, {"secret", "delete", "shop-token"}, {"exec", "shop-7", "--", "id"}, {"logs", "shop-7"},
		{"restart", "shop-7"}, {"apply", "-f", filepath.Join(hook, "shop-7.yaml")}, {"data", "list"}, {"release-deletes", "local"}, {"history", "shop-7"},
	} {
		if out, err := k.asNobody("read.sock", args...); err == nil || !strings.Contains(err.Error(), "changes nothing") {
			t.Errorf("tekton %s: %s, %v", strings.Join(args, " "), out, err)
		}
	}
	if out, err := k.asNobody("tekton.sock", "get"); err == nil || !strings.Contains(err.Error(), "you may not use") {
		t.Errorf("on the other socket: %s, %v", out, err)
	}
	k.must("delete", "repository/shop")
	k.condition("shop-7", v1alpha1.ConditionSpecValid, "RepositoryMissing")
	k.must("delete", "shop-7")
	k.gone("shop-7")
}
