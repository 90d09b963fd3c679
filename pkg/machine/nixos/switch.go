package nixos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

// saidMax is how much of what a switch said is told when it fails.
const saidMax = 2000

// switchTo has a container that is up switch to another system. The unit's
// reload is not asked for it: NixOS enters every namespace of the container but
// its user namespace, and begins with a login shell as the container's files
// say. What a container has put there would run as the host's root.
func (m *Manager) switchTo(ctx context.Context, u unit, c Container) error {
	failed := func(err error) error {
		return resource.Because("SwitchFailed", fmt.Errorf("container %s does not switch to %s: %w", c.Name, c.System, err))
	}
	ns, err := host.OpenNamespaces(u.leader)
	if err != nil {
		return failed(err)
	}
	defer ns.Close()
	// It lived before and after they were opened, so they are its own.
	m.forget(unitName(c.Name))
	now, err := m.look(ctx, c.Name)
	if err == nil && (now.leader != u.leader || now.invocation != u.invocation) {
		err = errors.New("it has just been started anew")
	}
	if err != nil {
		return failed(err)
	}
	cmd, err := ns.Command("", c.System+"/bin/switch-to-configuration", "test")
	if err != nil {
		return failed(err)
	}
	// A file and not a pipe: a switch that is under way outlives the daemon.
	fd, err := unix.MemfdCreate("switch", unix.MFD_CLOEXEC)
	if err != nil {
		return failed(err)
	}
	said := os.NewFile(uintptr(fd), "switch")
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		return failed(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		if err = ctx.Err(); errors.Is(err, context.DeadlineExceeded) { // else the daemon ends, and it goes on
			unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // its session
			<-ended
		}
	}
	if err != nil {
		return failed(fmt.Errorf("%w; %s", err, lastOf(tailOf(said))))
	}
	return nil
}

// tailOf are the last lines of a file.
func tailOf(f *os.File) []string {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return nil
	}
	b := make([]byte, min(info.Size(), saidMax))
	n, _ := f.ReadAt(b, info.Size()-int64(len(b)))
	lines := strings.Split(strings.TrimSpace(strings.ToValidUTF8(string(b[:n]), "")), "\n")
	return lines[max(0, len(lines)-3):]
}
