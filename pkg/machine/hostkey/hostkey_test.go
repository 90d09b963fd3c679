package hostkey

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func derive(t *testing.T, secret, name string) (private []byte, public string) {
	t.Helper()
	k := Derive([]byte(secret), name)
	private, err := k.Private()
	if err != nil {
		t.Fatal(err)
	}
	return private, k.Public()
}

func TestDerive(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	_, public := derive(t, secret, "Agent/a")
	// Golden: a change of it would change the keys of every agent there is.
	if want := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGh1rYUjr7S6/sAdXeyCeRey9ZN6TBU7dffWqjEcj4IT"; public != want {
		t.Errorf("public key %q, want %q", public, want)
	}
	if _, again := derive(t, secret, "Agent/a"); again != public {
		t.Error("the same name has two keys")
	}
	if _, other := derive(t, secret, "Agent/b"); other == public {
		t.Error("two names have one key")
	}
	if _, other := derive(t, secret[1:]+"x", "Agent/a"); other == public {
		t.Error("two installations have one key")
	}
}

// TestOpenSSHReadsIt: ssh-keygen finds the same public key in the private one.
func TestOpenSSHReadsIt(t *testing.T) {
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil && os.Getenv("TEKTON_TEST_REQUIRE") != "1" {
		t.Skipf("SKIPPED: %v", err)
	}
	private, public := derive(t, "secret", "Agent/a")
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, private, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(keygen, "-y", "-f", file).CombinedOutput()
	if err != nil || string(bytes.TrimSpace(out)) != public {
		t.Errorf("ssh-keygen says %q, %v; want %q", out, err, public)
	}
}
