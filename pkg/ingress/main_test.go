package ingress

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"tekton.host/pkg/internal/testenv"
)

// pebbleEnv names the authority that tests ask for certificates. It is built
// before the tests have a network of their own, which leads nowhere.
const pebbleEnv = "TEKTON_TEST_PEBBLE"

func TestMain(m *testing.M) {
	if os.Getenv(pebbleEnv) == "" && os.Geteuid() == 0 {
		out, err := exec.Command("go", "tool", "-modfile=../../hack/tools/go.mod", "-n", "pebble").CombinedOutput()
		program := strings.TrimSpace(string(out))
		if err != nil {
			program = "cannot be built: " + program
		}
		os.Setenv(pebbleEnv, program)
	}
	testenv.Main(m)
}
