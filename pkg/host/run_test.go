package host

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// TestRunIsBounded: what a program prints does not fill our memory.
func TestRunIsBounded(t *testing.T) {
	out, err := Run(t.Context(), Command{Argv: []string{"head", "-c", "9000000", "/dev/zero"}})
	if err != nil || len(out) != maxOutput {
		t.Errorf("%d bytes kept of 9000000, %v", len(out), err)
	}
	_, err = Run(t.Context(), Command{Argv: []string{"sh", "-c", "head -c 9000000 /dev/zero | tr '\\0' x >&2; echo last >&2; exit 3"}})
	failed, ok := errors.AsType[*RunError](err)
	if !ok || len(failed.Stderr) > stderrTail+8 || !strings.Contains(failed.Stderr, "xxx") {
		t.Errorf("a failure says %d bytes: %v", len(err.Error()), ok)
	}
}

// refusing takes nothing.
type refusing struct{}

func (refusing) Write([]byte) (int, error) { return 0, errors.New("no more") }

func TestRunStreams(t *testing.T) {
	var out bytes.Buffer
	if kept, err := Run(t.Context(), Command{Argv: []string{"head", "-c", "9000000", "/dev/zero"}, Stdout: &out}); err != nil || out.Len() != 9000000 || len(kept) != 0 {
		t.Errorf("%d bytes streamed, %d kept, %v", out.Len(), len(kept), err)
	}
	if _, err := Run(t.Context(), Command{Argv: []string{"cat", "/dev/zero"}, Stdout: refusing{}}); err == nil {
		t.Error("a program without end whose output is refused ended well")
	}
}
