package nix

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConfigIsRoots: a configuration is written where only root can put a link,
// and none is followed there.
func TestConfigIsRoots(t *testing.T) {
	c, elsewhere := &client{build: &build{}}, t.TempDir()
	c.build.Dir = t.TempDir()
	if strings.HasPrefix(c.config(), c.home()) {
		t.Fatalf("%s is the evaluator's, as %s is", c.config(), c.home())
	}
	victim := filepath.Join(elsewhere, configFile)
	if err := errors.Join(os.WriteFile(victim, []byte("kept"), 0o600), os.Symlink(elsewhere, c.config())); err != nil {
		t.Fatal(err)
	}
	if err := writeConfig(c.config(), "{ }"); err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(filepath.Join(c.config(), configFile))
	kept, errKept := os.ReadFile(victim)
	if err := errors.Join(err, errKept); err != nil || string(have) != "{ }" || string(kept) != "kept" {
		t.Errorf("written %q, elsewhere %q %v", have, kept, err)
	}
}
