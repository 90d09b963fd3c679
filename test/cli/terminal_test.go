package cli

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/server/servertest"
)

// Colours are for terminals only, and not for those who do not want them.
func TestColours(t *testing.T) {
	spec := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(spec, []byte("kind: Container\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		env  string
		args []string
		want bool
	}{
		"terminal": {"TERM=xterm", nil, true},
		"NO_COLOR": {"NO_COLOR=1", nil, false},
		"dumb":     {"TERM=dumb", nil, false},
		"never":    {"TERM=xterm", []string{"--color=never"}, false},
		"always":   {"NO_COLOR=1", []string{"--color=always"}, true},
	}
	for name, tc := range tests {
		cmd := exec.Command(filepath.Join(binary, "tekton"), append([]string{"validate", spec}, tc.args...)...)
		cmd.Env = []string{tc.env}
		terminal, err := pty.Start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		out, _ := io.ReadAll(terminal) // EIO is the end
		terminal.Close()
		cmd.Wait()
		if got := strings.Contains(string(out), "\x1b["); got != tc.want || !strings.Contains(string(out), "apiVersion") {
			t.Errorf("%s: colours %t, want %t:\n%q", name, got, tc.want, out)
		}
	}
}

// A prompt for a secret does not show it, and the value does not need a file.
func TestSecretPrompt(t *testing.T) {
	cmd := exec.Command(filepath.Join(binary, "tekton"), "--socket", "nowhere", "secret", "set", "token")
	terminal, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	prompt := make([]byte, len("Value of secret token: "))
	if _, err := io.ReadFull(terminal, prompt); err != nil {
		t.Fatal(err)
	}
	// Who types before the terminal is silent sees it.
	for echo := true; echo; {
		state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		echo = state.Lflag&unix.ECHO != 0
	}
	io.WriteString(terminal, "hunter2\n")
	out, _ := io.ReadAll(terminal)
	cmd.Wait()
	if strings.Contains(string(out), "hunter2") || cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("exit code %d, said %q", cmd.ProcessState.ExitCode(), out)
	}
}

// A wait on a terminal draws one line, in place, and leaves none behind.
func TestWaitDraws(t *testing.T) {
	socket := serving(t, servertest.State{Items: []v1alpha1.Item{{
		TypeMeta: v1alpha1.TypeMeta{Kind: v1alpha1.KindContainer}, Metadata: v1alpha1.ItemMeta{Name: "web"},
		Status: v1alpha1.Status{Phase: v1alpha1.PhaseBuilding, Build: &v1alpha1.BuildStatus{Running: true, Done: 1, Expected: 2}},
	}}})
	cmd := exec.Command(filepath.Join(binary, "tekton"), "--socket", socket, "wait", "--for=condition=Ready", "web", "--timeout", "2500ms")
	cmd.Env = []string{"TERM=xterm"}
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	out, _ := io.ReadAll(terminal) // EIO is the end
	terminal.Close()
	cmd.Wait()
	drawn := "web Building [##########..........]"
	if text := string(out); strings.Count(text, drawn) < 2 || strings.Count(text, drawn) != strings.Count(text, "\r\x1b[K") {
		t.Errorf("%q", out)
	}
}
