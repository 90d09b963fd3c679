package nixos

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/host"
	"tekton.host/pkg/supervise"
)

// unit is what systemd says of a container's unit.
type unit struct {
	load        string // loaded, not-found, masked ...
	needsReload bool   // its files changed since systemd read them
	active, sub string
	result      string
	invocation  string // of this start
	pid         int    // of systemd-nspawn, 0 when it does not run
	leader      int    // of the container's first process, seen from the host
	exitCode    int
	started     time.Time
	ended       time.Time
	fragment    string
}

// running: systemd-nspawn runs, or systemd is about to start it again.
func (u unit) running() bool {
	return u.active == "active" || u.active == "reloading" || u.active == "refreshing" || u.active == "activating" || u.active == "deactivating"
}

// ready: the container has said so, or ends.
func (u unit) ready() bool { return u.running() && u.active != "activating" }

// look reads a unit, from what was read before where nothing changed since.
func (m *Manager) look(ctx context.Context, name string) (unit, error) {
	id := unitName(name)
	conn, err := m.bus.Connect(ctx)
	if err != nil {
		return unit{}, err
	}
	m.mu.Lock()
	u, known := m.seen[id]
	generation := m.generation
	m.mu.Unlock()
	if !known || u.leader != 0 && !alive(u.leader) { // systemd has yet to say so
		properties, err := conn.GetAllPropertiesContext(ctx, id)
		if err != nil {
			return unit{}, fmt.Errorf("read unit %s: %w", id, err)
		}
		u = unitOf(properties)
	}
	if u.pid != 0 && u.leader == 0 {
		u.leader = leaderOf(u.pid)
	}
	if u.running() && u.leader == 0 {
		m.lookAgain() // no signal tells of the first process
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// Without signals, and while something is under way, each look is a new one.
	if generation == m.generation && m.heard == conn && (u.active == "active" && u.leader != 0 || u.active == "inactive" || u.active == "failed") {
		m.seen[id] = u
	}
	return u, nil
}

func unitOf(p map[string]any) unit {
	text := func(key string) string { s, _ := p[key].(string); return s }
	when := func(key string) time.Time {
		if usec, _ := p[key].(uint64); usec > 0 {
			return time.UnixMicro(int64(usec))
		}
		return time.Time{}
	}
	number := func(key string) int {
		switch n := p[key].(type) {
		case int32:
			return int(n)
		case uint32:
			return int(n)
		}
		return 0
	}
	id, _ := p["InvocationID"].([]byte)
	reload, _ := p["NeedDaemonReload"].(bool)
	u := unit{
		load: text("LoadState"), needsReload: reload, active: text("ActiveState"), sub: text("SubState"), result: text("Result"),
		invocation: hex.EncodeToString(id), pid: number("MainPID"), exitCode: number("ExecMainStatus"),
		started: when("ExecMainStartTimestamp"), ended: when("InactiveEnterTimestamp"), fragment: text("FragmentPath"),
	}
	if code := number("ExecMainCode"); code == killed || code == dumped {
		u.exitCode += 128
	}
	return u
}

// How a process ended, CLD_KILLED and CLD_DUMPED.
const (
	killed = 2
	dumped = 3
)

// leaderOf finds the first process of the machine that a systemd-nspawn runs:
// its child that is number 1 in a PID namespace of its own. 0: not yet there.
func leaderOf(nspawn int) int {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", nspawn, nspawn))
	if err != nil {
		return 0
	}
	for _, child := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(child)
		if err != nil {
			continue
		}
		status, err := host.ProcessStatus(pid)
		if err != nil {
			continue
		}
		if ids := strings.Fields(status["NSpid"]); len(ids) > 1 && ids[len(ids)-1] == "1" && ownNetwork(pid, nspawn) {
			return pid
		}
	}
	return 0
}

// ownNetwork reports whether a process is in another network namespace than its parent.
func ownNetwork(pid, parent int) bool {
	a, errA := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	b, errB := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", parent))
	return errA == nil && errB == nil && a != b
}

// alive reports whether a process is there.
func alive(pid int) bool { return pid > 0 && unix.Kill(pid, 0) == nil }

// status is a container as a supervisor tells of its process.
func (u unit) status(s state) supervise.Status {
	out := supervise.Status{
		Name: s.Name, Unit: unitName(s.Name), Mark: s.Mark, Generation: s.Generation,
		Boot: u.invocation + "-" + s.Fingerprint, StartedAt: u.started, Failures: s.Failures, // not those of systemd's own tries: they are one end
		Running: u.running(), Ready: u.ready(),
	}
	if out.Running {
		out.PID = u.pid
		if alive(u.leader) {
			out.Leader = u.leader
		}
		return out
	}
	out.ExitedAt, out.ExitCode = u.ended, u.exitCode
	switch {
	case u.load != "loaded":
		out.Err = noTemplate(u.load).Error()
	case u.result != "" && u.result != "success":
		out.Err = fmt.Sprintf("%s ended with result %q", unitName(s.Name), u.result)
	}
	return out
}

// FingerprintOf is the fingerprint that a container was started with, or
// switched to.
func FingerprintOf(s supervise.Status) string {
	_, fingerprint, _ := strings.Cut(s.Boot, "-")
	return fingerprint
}

func noTemplate(load string) error {
	return fmt.Errorf("systemd has no unit container@.service (%s): set boot.enableContainers in the host's NixOS configuration", load)
}
