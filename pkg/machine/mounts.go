package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// withoutMounts removes something below a machine's directory, which is ours
// alone. What somebody has mounted there, to look at a root or by a script that
// died, is in the way: it is unmounted, never gone into. A mount that is in use
// stays, and the error says where.
func withoutMounts(dir string, remove func() error) error {
	err := remove()
	if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EXDEV) {
		return err
	}
	points, listErr := mountsBelow(dir)
	if listErr != nil {
		return errors.Join(err, listErr)
	}
	for _, p := range slices.Backward(points) { // what was mounted last, first
		if e := unix.Unmount(p, unix.UMOUNT_NOFOLLOW); e != nil {
			return fmt.Errorf("%w (unmount %s: %w)", err, p, e)
		}
	}
	return remove()
}

// mountsBelow lists the mount points in dir, in the order that they were made.
func mountsBelow(dir string) ([]string, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var points []string
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(unescapeMount(f[4]), dir+"/") {
			points = append(points, unescapeMount(f[4]))
		}
	}
	return points, nil
}

// unescapeMount reads a path of mountinfo, where blanks and backslashes are octal.
func unescapeMount(s string) string {
	head, rest, found := strings.Cut(s, `\`)
	if !found || len(rest) < 3 {
		return s
	}
	c, err := strconv.ParseUint(rest[:3], 8, 8)
	if err != nil {
		return s
	}
	return head + string([]byte{byte(c)}) + unescapeMount(rest[3:])
}
