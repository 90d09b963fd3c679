package source

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestSnapshotFindsSpecFiles(t *testing.T) {
	d, _, dir := newDirectory(t)
	write(t, filepath.Join(dir, "b.yml"), doc("two", "three"))
	write(t, filepath.Join(dir, "a.yaml"), doc("one"))
	write(t, filepath.Join(dir, "broken.yaml"), "half")
	for _, ignored := range []string{".a.yaml.swp", ".#a.yaml", "#a.yaml#", "a.yaml~", "4913", "a.yaml.bak", "a.yaml.orig", "README", ".hidden.yaml", "a.YAML"} {
		write(t, filepath.Join(dir, ignored), doc("ignored"))
	}
	must(t, os.Symlink("nobody@host.1234", filepath.Join(dir, ".#b.yml"))) // emacs' lock
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))

	got := d.Snapshot(t.Context())
	if diff := cmp.Diff([]string{"one", "two", "three"}, names(got)); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yml"), filepath.Join(dir, "broken.yaml")}, got.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"broken.yaml ParseError"}, problems(got)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if !got.Complete || got.Err != nil || got.Marked || got.RetryAfter != 0 {
		t.Errorf("snapshot = %+v, want complete, unmarked, settled", got)
	}
}

func TestOddEntriesAreProblems(t *testing.T) {
	d, _, dir := newDirectory(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	write(t, in("good.yaml"), doc("good"))
	must(t, unix.Mkfifo(in("fifo.yaml"), 0o644))
	must(t, os.Symlink("fifo.yaml", in("fifolink.yaml")))
	must(t, os.Symlink("nowhere", in("dangling.yaml")))
	must(t, os.Symlink("circle.yaml", in("circle.yaml")))
	must(t, os.Symlink("/dev/zero", in("device.yaml")))
	must(t, os.Mkdir(in("directory.yaml"), 0o755))
	write(t, in("empty.yaml"), "")
	write(t, in("blank.yaml"), " \n\n")
	write(t, in("secret.yaml"), doc("secret"))
	must(t, os.Chmod(in("secret.yaml"), 0))
	write(t, in("huge.yaml"), strings.Repeat("x", MaxFileSize+1))
	write(t, in("largest.yaml"), strings.Repeat("x\n", (MaxFileSize-len(last))/2)+last)
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(socket)
	must(t, unix.Bind(socket, &unix.SockaddrUnix{Name: in("socket.yaml")}))

	got := d.Snapshot(t.Context())
	want := []string{
		"blank.yaml EmptyFile", "circle.yaml DanglingLink", "dangling.yaml DanglingLink", "device.yaml NotRegularFile",
		"directory.yaml NotRegularFile", "empty.yaml EmptyFile", "fifo.yaml NotRegularFile", "fifolink.yaml NotRegularFile",
		"huge.yaml FileTooLarge", "secret.yaml UnreadableFile", "socket.yaml NotRegularFile",
	}
	if diff := cmp.Diff(want, problems(got)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if !got.Complete || got.Objects[0].Meta().Name != "good" || len(got.Files) != len(want)+2 {
		t.Errorf("complete = %t, first object %q, %d files; the odd entries must not hide the rest", got.Complete, got.Objects[0].Meta().Name, len(got.Files))
	}
}

func TestUnreadableDirectories(t *testing.T) {
	base := realTemp(t)
	write(t, filepath.Join(base, "file"), "x")
	must(t, unix.Mkfifo(filepath.Join(base, "fifo"), 0o644))
	for name, path := range map[string]string{
		"missing": filepath.Join(base, "missing"), "file": filepath.Join(base, "file"), "fifo": filepath.Join(base, "fifo"),
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := open(t, path)
			s := d.Snapshot(t.Context())
			if s.Err == nil || s.Complete || !strings.Contains(s.Err.Error(), path) {
				t.Errorf("complete = %t, err = %v; want incomplete and an error naming %s", s.Complete, s.Err, path)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		d, _, dir := newDirectory(t)
		write(t, filepath.Join(dir, "a.yaml"), doc("a"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if s := d.Snapshot(ctx); s.Err == nil || s.Complete {
			t.Errorf("snapshot of a cancelled context = %+v, want incomplete", s)
		}
	})
}

func TestMarker(t *testing.T) {
	dir := filepath.Join(realTemp(t), "state", "specs")
	must(t, EnsureMarker(dir))
	must(t, EnsureMarker(dir))
	d, _ := open(t, dir)
	if s := d.Snapshot(t.Context()); !s.Marked || !s.Complete || s.Err != nil {
		t.Errorf("snapshot = %+v, want marked and complete", s)
	}
	must(t, os.Remove(filepath.Join(dir, Marker)))
	must(t, os.Mkdir(filepath.Join(dir, Marker), 0o755))
	if s := d.Snapshot(t.Context()); s.Marked {
		t.Error("a directory counts as marker")
	}
}

func TestUnchangedFilesAreNotReadAgain(t *testing.T) {
	d, dec, dir := newDirectory(t)
	for i := range 1000 {
		write(t, filepath.Join(dir, fmt.Sprintf("f%04d.yaml", i)), doc(fmt.Sprintf("o%04d", i)))
	}
	probes := 0
	d.probe = func(fd int) (writerState, error) { probes++; return probeWriters(fd) }
	// The clock of a later day: no file is fresh enough to be racy.
	d.now = func() time.Time { return time.Now().Add(24 * time.Hour) }
	first := d.Snapshot(t.Context())
	if len(first.Objects) != 1000 || probes != 2000 {
		t.Fatalf("%d objects, %d probes; want 1000 and two a file", len(first.Objects), probes)
	}
	second := d.Snapshot(t.Context())
	if probes != 2000 {
		t.Errorf("unchanged files were opened %d times", probes-2000)
	}
	if first.Revision != second.Revision {
		t.Error("the revision changed though nothing did")
	}
	d.Resync()
	d.Snapshot(t.Context())
	if probes != 4000 {
		t.Errorf("%d probes after a resync, want every file read again", probes-2000)
	}
	if n := len(dec.calls()); n != 1000 {
		t.Errorf("decoded %d times, want once a content", n)
	}
}

func TestChangesThatKeepMtimeAndSizeAreSeen(t *testing.T) {
	epoch := time.Unix(1, 0)
	tests := map[string]func(t *testing.T, path string){
		"written in place, mtime set back": func(t *testing.T, path string) { write(t, path, doc("bbb")) },
		"replaced, mtime set back": func(t *testing.T, path string) {
			write(t, path+".new", doc("bbb"))
			must(t, os.Chtimes(path+".new", epoch, epoch))
			must(t, os.Rename(path+".new", path))
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			d, _, dir := newDirectory(t)
			path := filepath.Join(dir, "a.yaml")
			write(t, path, doc("aaa"))
			must(t, os.Chtimes(path, epoch, epoch))
			before := d.Snapshot(t.Context())
			change(t, path)
			must(t, os.Chtimes(path, epoch, epoch))
			after := d.Snapshot(t.Context())
			if diff := cmp.Diff([]string{"bbb"}, names(after)); diff != "" || before.Revision == after.Revision {
				t.Errorf("revision %s then %s, objects (-want +got):\n%s", before.Revision, after.Revision, diff)
			}
		})
	}
}

func TestRacyKeys(t *testing.T) {
	at := time.Unix(1000, 500e6)
	ctime := func(d time.Duration) unix.Timespec {
		when := at.Add(-d)
		return unix.Timespec{Sec: when.Unix(), Nsec: int64(when.Nanosecond())}
	}
	tests := map[string]struct {
		ctime unix.Timespec
		want  bool
	}{
		"just changed":               {ctime(time.Millisecond), true},
		"changed a while ago":        {ctime(time.Second), false},
		"in the future":              {ctime(-time.Hour), true},
		"whole seconds, recent":      {unix.Timespec{Sec: 999}, true},
		"whole seconds, a while ago": {unix.Timespec{Sec: 990}, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := (fileKey{ctime: tc.ctime}).racyAt(at); got != tc.want {
				t.Errorf("racy = %t, want %t", got, tc.want)
			}
		})
	}
}

func TestRevisionFollowsEveryPart(t *testing.T) {
	d, _, dir := newDirectory(t)
	path := filepath.Join(dir, "a.yaml")
	seen := map[string]string{}
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"empty", func() {}},
		{"marked", func() { must(t, EnsureMarker(dir)) }},
		{"file", func() { write(t, path, doc("a")) }},
		{"content", func() { write(t, path, doc("b")) }},
		{"renamed", func() { must(t, os.Rename(path, path+".yaml")) }},
		{"problem", func() { must(t, os.Chmod(path+".yaml", 0)) }},
		{"missing", func() { must(t, os.RemoveAll(dir)) }},
	} {
		step.do()
		revision := d.Snapshot(t.Context()).Revision
		if other, ok := seen[revision]; ok {
			t.Errorf("%s has the revision of %s", step.name, other)
		}
		seen[revision] = step.name
	}
}

func TestLinksOutOfTheDirectory(t *testing.T) {
	tests := map[string]struct {
		dirMode os.FileMode
		target  string // below the base of the directory
		want    []string
	}{
		"ours alone":              {0o755, "../outside.yaml", []string{"x"}},
		"others may write":        {0o777, "../outside.yaml", nil},
		"the group may write":     {0o775, "../outside.yaml", nil},
		"others, but it stays in": {0o777, "..data/x.yaml", []string{"x"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			d, _, dir := newDirectory(t)
			must(t, os.Mkdir(filepath.Join(dir, "..data"), 0o755))
			write(t, filepath.Join(dir, "..data", "x.yaml"), doc("x"))
			write(t, filepath.Join(filepath.Dir(dir), "outside.yaml"), doc("x"))
			must(t, os.Symlink(tc.target, filepath.Join(dir, "x.yaml")))
			must(t, os.Chmod(dir, tc.dirMode))
			s := d.Snapshot(t.Context())
			if diff := cmp.Diff(tc.want, names(s)); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
			if tc.want == nil {
				if diff := cmp.Diff([]string{"x.yaml LinkOutside"}, problems(s)); diff != "" {
					t.Errorf("problems (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestNewRefusesIncompleteOptions(t *testing.T) {
	dec := &decoder{}
	for name, o := range map[string]Options{
		"no name":       {Path: "/x", Decode: dec.decode},
		"relative path": {Name: "a", Path: "x", Decode: dec.decode},
		"no decoder":    {Name: "a", Path: "/x"},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// BenchmarkUnchanged is what a pass over a converged host pays for its specs.
func BenchmarkUnchanged(b *testing.B) {
	dir := b.TempDir()
	d, err := New(Options{Name: "local", Path: dir, Decode: (&decoder{}).decode})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%04d.yaml", i)), []byte(doc(fmt.Sprintf("o%04d", i))), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	d.now = func() time.Time { return time.Now().Add(time.Hour) }
	d.Snapshot(b.Context())
	for b.Loop() {
		d.Snapshot(b.Context())
	}
}
