package host

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// NoDump keeps this process's memory, which holds secrets, out of core dumps
// and from debuggers of other users. It lasts until the next program is executed.
func NoDump() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keep the memory out of core dumps: %w", err)
	}
	return nil
}
