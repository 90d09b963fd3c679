package machine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/machine/handover"
)

const (
	// hearingTimeout is for systems whose init never handles the signal; a machine
	// that does is there within 0.1 s.
	hearingTimeout = 2 * time.Second
	hearingPoll    = 5 * time.Millisecond
	// stubName is nspawn's own first process, before a command, once it waits for
	// signals: by sigwait(3), which no mask shows.
	stubName = "(sd-stubinit)"
)

// awaitHearing waits until a machine's first process, as seen from the host,
// takes the signal that asks it to end. The kernel drops what PID 1 of a
// namespace has no handler for: sent in the moment of a start, or while
// tekton-init becomes the system's own init, it would be lost, and the stop
// would take until the kill.
func awaitHearing(ctx context.Context, leader int) {
	ctx, cancel := context.WithTimeout(ctx, hearingTimeout)
	defer cancel()
	for hears, there := hearing(leader); there && !hears; hears, there = hearing(leader) {
		select {
		case <-time.After(hearingPoll):
		case <-ctx.Done():
			return
		}
	}
}

// hearing reports whether a process handles the signal, or blocks it to read it
// from a signalfd as systemd does, and whether there is such a process.
func hearing(pid int) (hears, there bool) {
	status, err := host.ProcessStatus(pid)
	if err != nil {
		return false, false
	}
	switch status["Name"] {
	case stubName:
		return true, true
	case filepath.Base(handover.InitPath):
		argv, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if first, _, _ := strings.Cut(string(argv), "\x00"); err != nil || first == handover.InitPath {
			return false, err == nil
		}
	}
	for _, set := range []string{"SigCgt", "SigBlk"} {
		if signals, err := strconv.ParseUint(status[set], 16, 64); err == nil && signals&(1<<(handover.HaltSignal-1)) != 0 {
			return true, true
		}
	}
	return false, true
}
