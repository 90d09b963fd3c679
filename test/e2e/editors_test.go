package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// edits change a word of a file in all ways that people and programs have.
// Those of emacs, which is large, are its system calls as strace tells them.
var edits = []struct {
	name string
	do   func(k *tekton, file, from, to string) error
}{
	{"vim, new file in its place", vim("nobackup writebackup backupcopy=no")},
	{"vim, in place", vim("nobackup writebackup backupcopy=yes")},
	{"vim, kept backup", vim("backup backupcopy=no")},
	{"nano", nano()},
	{"nano, kept backup", nano("--backup")},
	{"sed -i", func(_ *tekton, f, from, to string) error { return call("sed", "-i", "s/"+from+"/"+to+"/", f) }},
	{"sed -i.bak", func(_ *tekton, f, from, to string) error { return call("sed", "-i.bak", "s/"+from+"/"+to+"/", f) }},
	{"rsync", rsync("--archive")},
	{"rsync --inplace", rsync("--archive", "--inplace")},
	{"rsync --backup", rsync("--archive", "--backup", "--suffix=.old")},
	{"cp", fromCopy(func(from, to string) error { return call("cp", from, to) })},
	{"cp --remove-destination", fromCopy(func(from, to string) error { return call("cp", "--remove-destination", from, to) })},
	{"mv", fromCopy(func(from, to string) error { return call("mv", from, to) })},
	{"shell", fromCopy(func(from, to string) error { return call("sh", "-c", "cat "+from+" > "+to) })},
	{"emacs, backup by renaming", emacs(os.Rename)},
	{"emacs, backup by copying", emacs(func(from, to string) error { return call("cp", "-p", from, to) })},
}

func call(args ...string) error {
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", args, err, out)
	}
	return nil
}

func vim(options string) func(*tekton, string, string, string) error {
	return func(_ *tekton, file, from, to string) error {
		program, err := exec.LookPath("vim")
		if err != nil {
			program = "vim.tiny"
		}
		return call(program, "-u", "NONE", "-i", "NONE", "-es", "-c", "set "+options, "-c", "%s/"+from+"/"+to+"/", "-c", "wq", file)
	}
}

// nano is typed at, in a terminal.
func nano(flags ...string) func(*tekton, string, string, string) error {
	return func(_ *tekton, file, from, to string) error {
		terminal, name, err := openTerminal()
		if err != nil {
			return err
		}
		defer terminal.Close()
		side, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			return err
		}
		cmd := exec.Command("nano", append(append([]string{"--ignorercfiles"}, flags...), file)...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = side, side, side
		cmd.Env = append(os.Environ(), "TERM=vt100")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		err = cmd.Start()
		side.Close()
		if err != nil {
			return err
		}
		// Its last line of help is drawn when it listens: replace, all, write, leave.
		var seen bytes.Buffer
		typed, buf := false, make([]byte, 4096)
		for {
			n, err := terminal.Read(buf)
			seen.Write(buf[:n])
			if !typed && bytes.Contains(seen.Bytes(), []byte("Exit")) {
				typed = true
				fmt.Fprintf(terminal, "\x1c%s\r%s\rA\x0f\r\x18", from, to)
			}
			if err != nil {
				break // it has left
			}
		}
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("nano: %w: %q", err, seen.String())
		}
		return nil
	}
}

// openTerminal makes a pseudo terminal of 24 lines.
func openTerminal() (*os.File, string, error) {
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, "", err
	}
	fd := int(f.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80})
	}
	return f, "/dev/pts/" + strconv.Itoa(n), err
}

// fromCopy changes the word in a copy elsewhere, which put brings into the directory.
func fromCopy(put func(from, to string) error) func(*tekton, string, string, string) error {
	return func(k *tekton, file, from, to string) error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		copied := k.path("copy.yaml")
		err = os.WriteFile(copied, bytes.Replace(text, []byte(from), []byte(to), 1), 0o644)
		return errors.Join(err, put(copied, file))
	}
}

func rsync(flags ...string) func(*tekton, string, string, string) error {
	return fromCopy(func(from, to string) error {
		// The copy may have the same size and second as what it replaces.
		return call(append(append([]string{"rsync", "--checksum"}, flags...), from, to)...)
	})
}

// emacs locks with a dangling link, saves itself beside the file, keeps the old
// one as FILE~, and writes the file anew.
func emacs(backup func(from, to string) error) func(*tekton, string, string, string) error {
	return func(_ *tekton, file, from, to string) error {
		dir, name := filepath.Split(file)
		lock, auto := dir+".#"+name, dir+"#"+name+"#"
		text, err := os.ReadFile(file)
		text = bytes.Replace(text, []byte(from), []byte(to), 1)
		err = errors.Join(err, os.Symlink("me@host.4711:1700000000", lock), os.WriteFile(auto, text, 0o600), backup(file, file+"~"))
		f, openErr := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
		if openErr != nil {
			return errors.Join(err, openErr)
		}
		_, writeErr := f.Write(text)
		return errors.Join(err, writeErr, f.Sync(), f.Close(), os.Chmod(file, 0o644), os.Remove(auto), os.Remove(lock))
	}
}
