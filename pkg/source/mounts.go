package source

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// watchMounts tells whenever something is mounted or unmounted, until ctx ends:
// inotify says nothing of what is mounted over a directory. Without /proc it
// never tells, and PollInterval finds out.
func watchMounts(ctx context.Context) <-chan struct{} {
	changes := make(chan struct{}, 1)
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return changes
	}
	ended, end, err := os.Pipe()
	if err != nil {
		table.Close()
		return changes
	}
	stop := context.AfterFunc(ctx, func() { end.Close() })
	go func() {
		defer func() { stop(); end.Close(); ended.Close(); table.Close() }()
		for {
			// The kernel reports a change once, as an exceptional condition.
			fds := []unix.PollFd{{Fd: int32(table.Fd()), Events: unix.POLLPRI}, {Fd: int32(ended.Fd())}}
			err := retryEINTR(func() error { _, err := unix.Poll(fds, -1); return err })
			if err != nil || fds[1].Revents != 0 {
				return
			}
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	}()
	return changes
}
