package cli

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/server"
	"tekton.host/pkg/server/servertest"
)

// shells complete a line: what they print has the completed words.
var shells = map[string]func(t *testing.T, line string) string{
	"bash": func(t *testing.T, line string) string {
		return output(t, "bash", "--norc", "-c", `source /usr/share/bash-completion/bash_completion; source <(tekton completion bash)
COMP_LINE=$1; COMP_POINT=${#1}; read -ra COMP_WORDS <<<"$1"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_TYPE=9; COMP_KEY=9
__start_tekton; echo "${COMPREPLY[@]}"`, "bash", line)
	},
	"fish": func(t *testing.T, line string) string {
		return output(t, "fish", "--no-config", "-c", "tekton completion fish | source; complete -C $argv[1]", line)
	},
	"zsh": func(t *testing.T, line string) string {
		return typed(t, exec.Command("zsh", "-f", "-i"), "autoload -Uz compinit; compinit -u; source <(tekton completion zsh); echo read''y\n", "ready", line+"\t")
	},
}

func output(t *testing.T, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", argv[0], err, &complaints)
	}
	return string(out)
}

// typed types first at a shell's prompt, then, when the shell has said ready,
// the rest, and returns what it has said after that up to the word "web".
func typed(t *testing.T, shell *exec.Cmd, first, ready, rest string) string {
	t.Helper()
	shell.Env = append(os.Environ(), "TERM=dumb", "PS1=$ ", "ZDOTDIR="+t.TempDir())
	terminal, err := pty.Start(shell)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		terminal.Close()
		shell.Process.Kill()
		shell.Wait()
	}()
	said := make(chan string)
	go func() {
		defer close(said)
		buf := make([]byte, 4096)
		for {
			n, err := terminal.Read(buf)
			if err != nil {
				return
			}
			said <- string(buf[:n])
		}
	}()
	io.WriteString(terminal, first)
	text, late := "", time.After(endTimeout)
	for begun := false; ; {
		if begun && strings.Contains(text, "web ") {
			return text
		}
		select {
		case more, ok := <-said:
			if !ok {
				return text
			}
			text += more
		case <-late:
			return text
		}
		if !begun && strings.Contains(text, ready) {
			begun, text = true, ""
			io.WriteString(terminal, rest)
		}
	}
}

// serving is the socket of a daemon with a state, for the time of the test.
func serving(t *testing.T, state servertest.State) (socket string) {
	t.Helper()
	run, err := os.MkdirTemp("", "tk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	socket = filepath.Join(run, "s")
	l, err := server.Listen(server.ListenOptions{Path: socket})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Options{Backend: servertest.New(state)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-served })
	return socket
}

// TestCompletion asks real shells for the names of live objects.
func TestCompletion(t *testing.T) {
	socket := serving(t, servertest.State{Items: []v1alpha1.Item{
		{TypeMeta: v1alpha1.TypeMeta{Kind: v1alpha1.KindContainer}, Metadata: v1alpha1.ItemMeta{Name: "web"}},
		{TypeMeta: v1alpha1.TypeMeta{Kind: v1alpha1.KindContainer}, Metadata: v1alpha1.ItemMeta{Name: "shop"}},
	}})
	t.Setenv("TEKTON_SOCKET", socket)
	t.Setenv("PATH", binary+string(os.PathListSeparator)+os.Getenv("PATH"))
	for name, complete := range shells {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(name); err != nil {
				if os.Getenv("TEKTON_TEST_REQUIRE") == "1" {
					t.Fatalf("needs %s; hack/deps.sh installs it", name)
				}
				t.Skipf("SKIPPED: needs %s; hack/deps.sh installs it", name)
			}
			if got := complete(t, "tekton describe w"); !strings.Contains(got, "web") || strings.Contains(got, "shop") {
				t.Errorf("%q", got)
			}
		})
	}
}
