package nix

import (
	"context"
	"os"
	"testing"
)

// TestOutputIsBounded: what a stranger's evaluation prints does not fill our memory.
func TestOutputIsBounded(t *testing.T) {
	c := &client{build: &build{log: newLogReader()}}
	out, err := c.run(context.Background(), command{argv: []string{"head", "-c", "9000000", "/dev/zero"}, env: os.Environ()})
	if err != nil || len(out) != maxOutput {
		t.Errorf("%d bytes kept of 9000000, %v", len(out), err)
	}
}
