package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/api/v1alpha1"
)

// nobody is an ordinary user, who owns a directory that is a source.
const nobody = 65534

// asNobody runs a program as that user.
func asNobody(stdin string, args ...string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v as nobody: %w: %s", args, err, out)
	}
	return nil
}

// hook is an installation with a second source, which nobody writes and which
// may have untrusted containers below preview.test and nothing more.
type hook struct {
	*tekton
	dir string
}

func newHook(t *testing.T, more string) *hook {
	t.Helper()
	k := prepare(t)
	h := &hook{k, k.path("hook")}
	// What waits there for a name must not get it at the end.
	t.Cleanup(func() { exec.Command("sh", "-c", "rm -f "+h.dir+"/*").Run() })
	k.extra = fmt.Sprintf("sources:\n  - {name: local, path: %s}\n  - {name: hook, path: %s, allow: {kinds: [Container], domains: [\"*.preview.test\"]%s}}", k.specs(), h.dir, more)
	k.writeConfig()
	k.check(errors.Join(os.Mkdir(h.dir, 0o755), os.Chown(h.dir, nobody, nobody)))
	k.up()
	return h
}

// put writes a file as the source's user.
func (h *hook) put(file, text string) {
	h.t.Helper()
	h.check(asNobody(text, "sh", "-c", "cat > "+filepath.Join(h.dir, file)))
}

// plain is a container that the source may have.
func plain(name string, lines ...string) string {
	return container(name, append([]string{"system: {host: true}", "command: [sleep, infinity]"}, lines...)...)
}

// forbidden is every sort of relaxation; pkg/spec has the table of all fields.
var forbidden = map[string][]string{
	"trust":      {"trust: trusted"},
	"mount":      {"trust: trusted", "mounts: [{hostPath: /etc, path: /mnt}]"},
	"rootfs":     {"system: {rootfs: /srv}"},
	"port":       {"network: {ports: [{hostPort: 8099, hostIP: 0.0.0.0}]}"},
	"link":       {"network: {links: [{to: mine, port: 8080}]}"},
	"secret":     {"credentials: [{name: master}]"},
	"egress":     {"trust: trusted", "network: {egress: {mode: all}}"},
	"domain":     {"routes: [{host: mine.test, path: /steal, port: 80}]"},
	"wildcard":   {`routes: [{host: "*.test", port: 80}]`},
	"capability": {"trust: trusted", "capabilities: [CAP_SYS_ADMIN]"},
	"userns":     {"trust: trusted", "userNamespace: false"},
	"extension":  {"trust: trusted", "databases: [{name: main, extensions: [plpython3u]}]"},
	"paused":     {"paused: true", "trust: trusted"},
	"disabled":   {"enabled: false", "mounts: [{hostPath: /etc, path: /mnt}]", "trust: trusted"},
}

// TestNarrowSource: who can write a source's files gets what its admission
// allows and nothing more.
func TestNarrowSource(t *testing.T) {
	t.Parallel()
	h := newHook(t, ", maxObjects: 2, secrets: [ours]")
	_, err := h.runWith("a secret", "secret", "set", "ours")
	h.check(err)
	h.write("mine.yaml", h.guest("mine", "routes: [{host: mine.test, port: 8080}]", "volumes: [{name: data, path: /data, deletionPolicy: Retain}]"))
	h.write("left.yaml", h.guest("left", "volumes: [{name: data, path: /data, deletionPolicy: Retain}]"))
	h.ready("mine", "left")
	h.mustAsk("left", "/append", "path", "/data/notes", "data", "of the operator")
	h.remove("left.yaml")
	h.gone("left")
	pid := h.leader("mine")

	for name, lines := range forbidden {
		h.put(name+".yaml", plain(name, lines...))
	}
	h.put("fine.yaml", plain("fine", "credentials: [{name: ours, env: OURS}]"))
	h.ready("fine") // the source is alive, and all of it was read
	for name := range forbidden {
		h.eventually(name+" is refused", func() error {
			i, err := h.item(name)
			if err != nil {
				return err
			}
			c := i.Status.Conditions
			if i.Status.Phase != v1alpha1.PhaseRejected || len(c) == 0 || c[0].Reason != "SourcePolicy" {
				return fmt.Errorf("%+v", i.Status)
			}
			at := filepath.Join(h.dir, name+".yaml") + ":"
			if i.Metadata.Source.Name != "hook" || i.Metadata.Source.Line == 0 || !strings.Contains(c[0].Message, at) {
				return fmt.Errorf("position %+v, message %q", i.Metadata.Source, c[0].Message)
			}
			return nil
		})
		h.check(asNobody("", "rm", filepath.Join(h.dir, name+".yaml")))
	}
	// An object that runs does not become what may not start; its last good spec stays.
	fine := h.nspawn("fine")
	h.put("fine.yaml", plain("fine", "trust: trusted", "userNamespace: false"))
	h.condition("fine", v1alpha1.ConditionSpecValid, "SourcePolicy")

	// Names and data of the other source are not for the taking.
	h.put("mine.yaml", plain("mine"))
	h.eventually("the name is taken", func() error {
		problems, err := h.api().Problems(t.Context())
		for _, p := range problems {
			if p.Reason == "DuplicateName" && p.File == filepath.Join(h.dir, "mine.yaml") {
				return nil
			}
		}
		return fmt.Errorf("%v %v", problems, err)
	})
	h.put("left.yaml", plain("left", "volumes: [{name: data, path: /data}]"))
	h.condition("left", v1alpha1.ConditionReady, "DataConflict")
	h.put("third.yaml", plain("third"))
	h.condition("third", v1alpha1.ConditionReady, "SourcePolicy") // maxObjects

	if h.leader("mine") != pid || h.nspawn("fine") != fine {
		t.Error("a machine was restarted")
	}
	if n := len(h.machines()); n != 2 {
		t.Errorf("%d machines run, want mine and fine: %v", n, h.machines())
	}
	h.mustServe("mine.test")
	if out := h.mustAsk("mine", "/stat", "path", "/data"); out == "" {
		t.Error("its volume is gone")
	}
	h.signal(syscall.SIGKILL) // the next daemon does not think otherwise
	h.up()
	h.condition("left", v1alpha1.ConditionReady, "DataConflict")
	h.ready("mine")
	if n := len(h.machines()); n != 2 || h.leader("mine") != pid {
		t.Errorf("after a restart: %v", h.machines())
	}

	// What was admitted once is stopped when it is not any more.
	h.signal(syscall.SIGKILL)
	h.extra = strings.Replace(h.extra, "[ours]", "[theirs]", 1)
	h.writeConfig()
	h.up()
	h.condition("fine", v1alpha1.ConditionReady, "SourcePolicy")
	h.settled()
	if machines := h.machines(); len(machines) != 1 || h.leader("mine") != pid {
		t.Errorf("with a narrower source run %v, want mine alone", machines)
	}
	if i := h.get("fine"); i.Status.Phase != v1alpha1.PhaseRejected {
		t.Errorf("fine: %+v", i.Status)
	}
	h.signal(syscall.SIGKILL)
	h.extra = strings.Replace(h.extra, "[theirs]", "[ours]", 1)
	h.writeConfig()
	h.put("fine.yaml", plain("fine", "credentials: [{name: ours, env: OURS}]"))
	h.up()
	h.ready("fine", "mine")
}

// TestLinkedFilesAreNotTold: a file that nobody may read does not become
// readable by a name in a source.
func TestLinkedFilesAreNotTold(t *testing.T) {
	t.Parallel()
	h := newHook(t, "")
	const canary = "Hunter2isTheWord"
	// Words that errors of all sorts would repeat: of YAML, of types, of fields, of kinds.
	secrets := map[string]string{
		"passwords": "root:" + canary + ":*" + canary + "\n" + canary + ": [\n",
		"typed":     plain("typed", "user: ["+canary+"]", canary+": x", "stopTimeout: "+canary),
		"kind":      "apiVersion: " + canary + "\nkind: " + canary + "\nmetadata: {name: " + strings.ToLower(canary) + "}\n",
		"good":      plain("good", "environment: {KEY: "+canary+"}", "routes: [{host: "+strings.ToLower(canary)+".test, port: 80}]"),
	}
	vault := h.path("vault")
	h.check(os.Mkdir(vault, 0o700))
	names := []string{}
	for name, text := range secrets {
		file := filepath.Join(vault, name)
		h.check(os.WriteFile(file, []byte(text), 0o600))
		h.check(asNobody("", "ln", "-s", file, filepath.Join(h.dir, name+"-soft.yaml")))
		h.check(asNobody("", "ln", "-s", name+"-soft.yaml", filepath.Join(h.dir, name+"-chain.yaml")))
		// With fs.protected_hardlinks=0 nobody could make this one.
		h.check(os.Link(file, filepath.Join(h.dir, name+"-hard.yaml")))
		names = append(names, name+"-soft.yaml", name+"-chain.yaml", name+"-hard.yaml")
	}
	h.write("mine.yaml", plain("mine", "environment: {KEY: "+canary+"}"))
	for name, target := range map[string]string{
		"shadow": "/etc/shadow", "environ": "/proc/1/environ", "mem": "/proc/self/mem", "spec": h.specs("mine.yaml"), "disk": "/dev/zero", "dir": "/root", "none": "/nowhere",
	} {
		h.check(asNobody("", "ln", "-s", target, filepath.Join(h.dir, name+".yaml")))
		names = append(names, name+".yaml")
	}
	h.check(asNobody("", "mkfifo", filepath.Join(h.dir, "fifo.yaml")))
	h.check(asNobody("", "truncate", "-s", "20G", filepath.Join(h.dir, "huge.yaml")))
	h.put("fine.yaml", plain("fine"))
	h.ready("mine", "fine")
	names = append(names, "fifo.yaml", "huge.yaml")
	var told bytes.Buffer
	h.eventually("each file has a problem", func() error {
		problems, err := h.api().Problems(t.Context())
		if err != nil {
			return err
		}
		missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
			for _, p := range problems {
				if p.File == filepath.Join(h.dir, name) {
					return true
				}
			}
			return false
		})
		if len(missing) > 0 {
			return fmt.Errorf("none with %v", missing)
		}
		told.Reset()
		return json.NewEncoder(&told).Encode(problems)
	})
	items, err := h.api().List(t.Context())
	h.check(err)
	for _, i := range items {
		if i.Metadata.Name == "mine" {
			i.Spec = nil // the operator's own, with the word in its environment
		}
		h.check(json.NewEncoder(&told).Encode(i))
	}
	sources, err := h.api().Sources(t.Context())
	h.check(err)
	h.check(json.NewEncoder(&told).Encode(sources))
	log, err := os.ReadFile(h.path("log"))
	h.check(err)
	told.Write(log)
	if at := strings.Index(strings.ToLower(told.String()), strings.ToLower(canary)); at >= 0 {
		t.Errorf("the word is told:\n%.600s", told.String()[max(0, at-300):])
	}
	// systemd-nspawn is two processes while it starts.
	h.eventually("two machines run", func() error {
		if machines := h.machines(); len(machines) != 2 {
			return fmt.Errorf("%d: %v", len(machines), machines)
		}
		return nil
	})
	h.check(unix.Unlink(filepath.Join(h.dir, "fifo.yaml")))
}
