package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"tekton.host/pkg/machine/handover"
)

// commandEnviron is the environment of the machine's command: PID 1 is
// systemd-nspawn's stub, which reaps, and the command follows it.
const commandEnviron = "/proc/2/environ"

// Enter executes a command of `tekton exec` inside a running machine with the
// environment of the machine's own command, so that DATABASE_URL and the like
// are there. Who enters, and from which terminal, stays. It returns only with
// an error.
func Enter(argv []string) error {
	if len(argv) == 0 {
		return &ExitError{handover.ExitNotFound, errors.New("no command to execute")}
	}
	own, err := commandEnvironment()
	if err != nil {
		return err
	}
	env := merge([]string{defaultPath}, own, withoutPath(os.Environ()))
	path, err := lookPath(argv[0], env)
	if err != nil {
		return err
	}
	return execute(path, argv, env)
}

// commandEnvironment is empty for a booted system: there are many commands, and
// its units have their own environments.
func commandEnvironment() ([]string, error) {
	if _, err := os.Lstat(handover.EnvironmentFile); err == nil {
		return nil, nil
	}
	raw, err := os.ReadFile(commandEnviron)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the environment of the machine's command: %w", err)
	}
	return strings.FieldsFunc(string(raw), func(r rune) bool { return r == 0 }), nil
}

// defaultPath is that of a machine that boots: nobody has told its processes one.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin"

// withoutPath keeps the command's own search path, unless it has none.
func withoutPath(env []string) []string {
	var out []string
	for _, kv := range env {
		if !strings.HasPrefix(kv, "PATH=") {
			out = append(out, kv)
		}
	}
	return out
}
