package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/machine/handover"
)

// Work does one piece of a setup inside the running machine that it was sent
// into: it writes files, replaces a checkout by the tree that in holds, or
// becomes the setup's command. It returns nil only when all is done.
func Work(in io.Reader, out io.Writer) error {
	unix.Umask(0o022)
	w, err := handover.OpenWork(handover.FD)
	switch {
	case err != nil:
		return err
	case w.Checkout != nil:
		return unpack(*w.Checkout, in, out)
	case len(w.Command) > 0:
		return perform(w)
	}
	return deliver(w.Files)
}

// perform executes the command of a setup.
func perform(w handover.Work) error {
	u, err := lookupUser(w.User)
	if err != nil {
		return err
	}
	var own []string
	if w.Inherit {
		if own, err = commandEnvironment(); err != nil {
			return err
		}
	}
	who := []string{"HOME=" + u.home, "USER=" + u.name, "LOGNAME=" + u.name}
	env := merge([]string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}, own, who, w.Environment)
	if err := boundLike("/proc/1/status"); err != nil {
		return err
	}
	if err := u.become(); err != nil {
		return err
	}
	if w.WorkDir == "" {
		w.WorkDir = "/"
	}
	if err := os.Chdir(w.WorkDir); err != nil {
		return fmt.Errorf("enter the working directory as %s: %w", u, err)
	}
	name, err := lookPath(w.Command[0], env)
	if err != nil {
		return err
	}
	return execute(name, w.Command, env)
}

// boundLike gives this thread, which is to execute, the capability bounding set
// of the machine: who enters it from the host has all there are.
func boundLike(status string) error {
	runtime.LockOSThread()
	text, err := os.ReadFile(status)
	if err != nil {
		return fmt.Errorf("read which capabilities the machine has: %w", err)
	}
	_, rest, found := strings.Cut(string(text), "\nCapBnd:")
	line, _, _ := strings.Cut(rest, "\n")
	bound, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if err != nil || !found {
		return fmt.Errorf("read which capabilities the machine has: %q", line)
	}
	for c := range uint(64) {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err != nil || has == 0 || bound>>c&1 == 1 {
			continue // unknown to the kernel, dropped already, or the machine's
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return nil
}

func deliver(files []handover.WorkFile) error {
	for _, f := range files {
		u, err := lookupUser(f.User)
		if err == nil {
			err = place(f, u)
		}
		if err != nil {
			return fmt.Errorf("file %s: %w", f.Path, err)
		}
	}
	return nil
}

// place writes a file. In a home it is its user who does: whatever that has put
// there leads no further than the user itself could reach.
func place(f handover.WorkFile, u user) error {
	name := path.Clean(f.Path)
	for _, tree := range []string{"/etc", volatileRoot, "/tmp"} {
		if rel, ok := strings.CutPrefix(name, tree+"/"); ok {
			return replaceFile(tree, unix.O_NOFOLLOW, rel, f, u)
		}
	}
	rel, ok := u.belowHome(name)
	if !ok || rel == "." {
		return fmt.Errorf("must be below /etc, /run, /tmp or the home of %s", u)
	}
	return u.do(func() error { return replaceFile(u.home, 0, rel, f, u) })
}

// replaceFile puts a new file in the place of what is there. No link is followed
// on the way to it from tree.
func replaceFile(tree string, flags int, rel string, f handover.WorkFile, u user) error {
	dir, err := openDirs(tree, flags, path.Dir(rel))
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	base := path.Base(rel)
	if same(dir, base, f, u) {
		return nil // its time of change says to systemd whether a unit has to be read again
	}
	next := "." + base + ".tekton"
	if err := unlink(dir, next); err != nil { // of a run that was cut short
		return err
	}
	if err := createFile(dir, next, f, u); err != nil {
		unlink(dir, next)
		return err
	}
	if err := unix.Renameat(dir, next, dir, base); err != nil {
		unlink(dir, next)
		return fmt.Errorf("replace: %w", err)
	}
	return nil
}

// same reports whether a file is there as it would be written.
func same(dir int, name string, f handover.WorkFile, u user) bool {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode != unix.S_IFREG|f.Mode&0o777 || int(st.Uid) != u.uid || int(st.Gid) != u.gid || st.Nlink != 1 || st.Size != int64(len(f.Data)) {
		return false
	}
	data, err := io.ReadAll(io.LimitReader(file, st.Size+1))
	return err == nil && bytes.Equal(data, f.Data)
}

func createFile(dir int, name string, f handover.WorkFile, u user) error {
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	file := os.NewFile(uintptr(fd), name)
	_, err = file.Write(f.Data)
	return errors.Join(err, file.Chown(u.uid, u.gid), file.Chmod(os.FileMode(f.Mode&0o777)), file.Close())
}

func unlink(dir int, name string) error {
	if err := unix.Unlinkat(dir, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// belowHome is where in the user's home a path is.
func (u user) belowHome(name string) (rel string, ok bool) {
	home := path.Clean("/" + u.home)
	if home == "/" {
		return "", false
	}
	if name == home {
		return ".", true
	}
	return strings.CutPrefix(name, home+"/")
}

// do has files accessed as the user would.
func (u user) do(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer setFileIDs(0, 0) // if that fails, less is allowed than should be
	if err := setFileIDs(u.uid, u.gid); err != nil {
		return fmt.Errorf("access files as %s: %w", u, err)
	}
	return f()
}

// setFileIDs changes the ids of this thread that count for files. The system
// calls report no errors: asked again, they tell what is in force.
func setFileIDs(uid, gid int) error {
	if uid == 0 { // the group last needs the right to choose it
		unix.SetfsuidRetUid(uid)
	}
	unix.SetfsgidRetGid(gid)
	unix.SetfsuidRetUid(uid)
	haveUID, _ := unix.SetfsuidRetUid(-1)
	haveGID, _ := unix.SetfsgidRetGid(-1)
	if haveUID != uid || haveGID != gid {
		return unix.EPERM
	}
	return nil
}
