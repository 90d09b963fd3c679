package guest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// user is whom the command runs as.
type user struct {
	name   string
	uid    int
	gid    int
	groups []int
	home   string
}

func (u user) String() string { return fmt.Sprintf("%s (%d:%d)", u.name, u.uid, u.gid) }

// lookupUser reads the machine's own passwd and group files. spec is empty
// (root), a name, UID, or UID:GID. An UID that is not in passwd gets the group
// of the same number.
func lookupUser(spec string) (user, error) {
	passwd, err := readTable("/etc/passwd")
	if err != nil {
		return user{}, err
	}
	group, err := readTable("/etc/group")
	if err != nil {
		return user{}, err
	}
	u, err := resolveUser(spec, passwd, group)
	if err != nil {
		return user{}, fmt.Errorf("user %q: %w", spec, err)
	}
	return u, nil
}

func resolveUser(spec string, passwd, group [][]string) (user, error) {
	if spec == "" {
		spec = "0"
	}
	name, gidText, hasGID := strings.Cut(spec, ":")
	uid, numeric := parseID(name)
	u := user{name: name, uid: uid, gid: uid, home: "/"}
	if uid == 0 && numeric {
		u.name, u.home = "root", "/root"
	}
	found := false
	for _, f := range passwd {
		if len(f) < 6 || (numeric && f[2] != strconv.Itoa(uid)) || (!numeric && f[0] != name) {
			continue
		}
		id, ok := parseID(f[2])
		gid, okGID := parseID(f[3])
		if !ok || !okGID {
			return user{}, fmt.Errorf("the line of %q in /etc/passwd has no valid ids", f[0])
		}
		u = user{name: f[0], uid: id, gid: gid, home: f[5]}
		found = true
		break
	}
	if !found && !numeric {
		return user{}, fmt.Errorf("not in /etc/passwd of this system: use a name that is, or UID or UID:GID")
	}
	if hasGID {
		gid, ok := parseID(gidText)
		if !ok {
			return user{}, fmt.Errorf("%q is not a group number", gidText)
		}
		u.gid = gid
	}
	u.groups = append([]int{u.gid}, memberOf(u.name, u.gid, group)...)
	return u, nil
}

func memberOf(name string, primary int, group [][]string) []int {
	var out []int
	for _, f := range group {
		if len(f) < 4 {
			continue
		}
		gid, ok := parseID(f[2])
		if !ok || gid == primary {
			continue
		}
		for m := range strings.SplitSeq(f[3], ",") {
			if m == name {
				out = append(out, gid)
				break
			}
		}
	}
	return out
}

func parseID(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return int(n), err == nil && n < 1<<32-1
}

// readTable reads a colon-separated file; a missing one is empty.
func readTable(path string) ([][]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		if os.IsNotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	var out [][]string
	for line := range strings.Lines(string(b)) {
		out = append(out, strings.Split(strings.TrimSpace(line), ":"))
	}
	return out, nil
}

// become switches to the user for good. The standard streams go along, so that
// /dev/stdout can be opened again by name.
func (u user) become() error {
	for fd := range 3 {
		syscall.Fchown(fd, u.uid, u.gid) // best effort: /dev/null belongs to nobody here
	}
	if err := syscall.Setgroups(u.groups); err != nil {
		return fmt.Errorf("set groups of %s: %w", u, err)
	}
	if err := syscall.Setresgid(u.gid, u.gid, u.gid); err != nil {
		return fmt.Errorf("set group of %s: %w", u, err)
	}
	if err := syscall.Setresuid(u.uid, u.uid, u.uid); err != nil {
		return fmt.Errorf("become %s: %w", u, err)
	}
	return nil
}
