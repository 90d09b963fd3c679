package backup

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// onePart makes an archive of what fill writes to one part.
func onePart(t *testing.T, fill func(*Writer) error) ([]byte, Manifest) {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, WriterOptions{Head: head})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.part("state/volumes", func() error { return fill(w) }); err != nil {
		t.Fatal(err)
	}
	m, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), m
}

// TestManyHoles: a file has as many stretches in an archive as readers take; none
// of its data is taken for a hole.
func TestManyHoles(t *testing.T) {
	const size = math.MaxInt64
	for _, n := range []int64{1, maxSegments - 1, maxSegments, maxSegments + 1, 3 * maxSegments} {
		var all []segment
		for i := range n {
			all = append(all, segment{size - 20*(n-i) - i%3, 10})
		}
		some := joined(slices.Clone(all))
		if want := min(n, maxSegments); int64(len(some)) != want {
			t.Fatalf("of %d stretches are %d left, want %d", n, len(some), want)
		}
		var stored int64
		for i, at := 0, 0; i < len(all); i++ {
			for some[at].at+some[at].length <= all[i].at {
				at++
			}
			if s := some[at]; all[i].at < s.at || all[i].at+10 > s.at+s.length {
				t.Fatalf("stretch %v is not in %v", all[i], s)
			}
		}
		for i, s := range some {
			if stored += s.length; i > 0 && s.at <= some[i-1].at+some[i-1].length {
				t.Fatalf("%v follows %v", s, some[i-1])
			}
		}
		archive, _ := onePart(t, func(w *Writer) error {
			_, end, err := w.sparse(&tar.Header{Typeflag: tar.TypeReg, Name: "state/volumes", Size: size, ModTime: head.CreatedAt}, some)
			if err != nil {
				return err
			}
			_, err = io.CopyN(w.out, zeros{}, stored)
			return errors.Join(err, end())
		})
		stop := errors.New("the header was read")
		if _, err := read(bytes.NewReader(archive), func(*tar.Header, io.Reader) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("%d stretches: %v", n, err)
		}
	}
}

// TestOldSparseFile: a file with holes keeps its time, also before 1970.
func TestOldSparseFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 1<<20)); err != nil {
		t.Fatal(err)
	}
	for _, nanoseconds := range []int64{-1_500_000_000, -500_000_000, -1, -2_000_000_000, 0, 1, 1_500_000_000} {
		at := time.Unix(0, nanoseconds)
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
		archive, _ := pack(t, true, "state/volumes="+file)
		if !bytes.Contains(archive, []byte("GNU.sparse.major")) {
			t.Fatal("this file system has no holes")
		}
		var got time.Time
		if _, err := read(bytes.NewReader(archive), func(h *tar.Header, _ io.Reader) error { got = h.ModTime; return nil }); err != nil || !got.Equal(at) {
			t.Errorf("%v came back as %v: %v", at, got, err)
		}
	}
}

// TestAttributesOfOneFile: too many of them, and such as cannot be read, are told and
// end nothing.
func TestAttributesOfOneFile(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 64<<10)
	var list []byte
	for _, key := range "abcdefghijklmnopqrst" {
		list = append(list, "user."+string(key)+"\x00"...)
	}
	list = append(list, "user.gone\x00user.bad\x00user.a=b\x00user.empty\x00"...)
	archive, m := onePart(t, func(w *Writer) error {
		p := &packer{Writer: w}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: "state/volumes", ModTime: head.CreatedAt}
		h.PAXRecords = p.records(h.Name, list, func(key string) ([]byte, error) {
			switch key {
			case "user.gone":
				return nil, unix.ENODATA
			case "user.bad":
				return nil, unix.EIO
			case "user.empty":
				return nil, nil
			}
			return big, nil
		})
		return p.header(h)
	})
	remarks := strings.Join(m.Remarks, "\n")
	if strings.Count(remarks, "more of them than") != 6 || !strings.Contains(remarks, "user.bad") || !strings.Contains(remarks, "user.a=b") || strings.Contains(remarks, "user.gone") {
		t.Errorf("remarks:\n%s", remarks)
	}
	if _, err := read(bytes.NewReader(archive), func(h *tar.Header, _ io.Reader) error {
		if _, empty := h.PAXRecords[xattrRecord+"user.empty"]; len(h.PAXRecords) != 15 || !empty {
			t.Errorf("it has %v", slices.Sorted(maps.Keys(h.PAXRecords)))
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestDeepPaths: what has a path that could not be made again is left out and told,
// the rest comes back.
func TestDeepPaths(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(src)
	if err != nil {
		t.Fatal(err)
	}
	step := strings.Repeat("d", 250)
	for depth := range 20 {
		if err := root.WriteFile("file", []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		dir, err := root.Open(".")
		if err == nil {
			err = errors.Join(unix.Mknodat(int(dir.Fd()), "pipe", unix.S_IFIFO|0o600, 0), dir.Close())
		}
		if err == nil {
			err = root.Mkdir(step, 0o755)
		}
		if err != nil {
			t.Fatalf("%d deep: %v", depth, err)
		}
		sub, err := root.OpenRoot(step)
		if err != nil {
			t.Fatal(err)
		}
		root.Close()
		root = sub
	}
	root.Close()
	archive, m := pack(t, false, "state/volumes="+src)
	if len(m.Remarks) != 1 || !strings.Contains(m.Remarks[0], "path is longer") {
		t.Errorf("remarks %.500q", m.Remarks)
	}
	to, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if _, err := unpack(bytes.NewReader(archive), to, mine, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Lstat("state/volumes/" + strings.Repeat(step+"/", 13) + "pipe"); err != nil {
		t.Error(err)
	}
}

// TestNumberOfFileIsUsedAgain: a name of another file is no link to the one that had
// its inode's number before.
func TestNumberOfFileIsUsedAgain(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "new")
	if err := errors.Join(os.WriteFile(file, []byte("new"), 0o600), os.Link(file, filepath.Join(dir, "second"))); err != nil {
		t.Fatal(err)
	}
	var types []byte
	archive, _ := onePart(t, func(w *Writer) error {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		info := lstat(t, file)
		p := &packer{Writer: w, dev: stat(info).Dev, linked: map[inode]first{inodeOf(info): {name: "state/volumes/removed", changed: unix.Timespec{Sec: 1}}}}
		return p.entry(root, ".", "state/volumes", 0)
	})
	if _, err := read(bytes.NewReader(archive), func(h *tar.Header, _ io.Reader) error { types = append(types, h.Typeflag); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []byte{tar.TypeDir, tar.TypeReg, tar.TypeLink}; !bytes.Equal(types, want) {
		t.Errorf("the entries are %c, want %c", types, want)
	}
}

// TestTopIsLink: where the place of a part is a link, what it leads to is in the
// archive; put back, that is where the link leads, or in its place.
func TestTopIsLink(t *testing.T) {
	needRoot(t)
	from := t.TempDir()
	places := placesIn(from)
	furnish(t, places)
	relocate := func(path, to string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.Rename(path, to), os.Symlink(to, path)); err != nil {
			t.Fatal(err)
		}
	}
	key, specs := places.Host.Ingress.Certificates[0].KeyFile, places.Host.Sources[2].Path
	relocate(key, filepath.Join(from, "archive/key1.pem"))
	relocate(specs, filepath.Join(from, "elsewhere/specs"))
	relocate(places.Layout().Volumes(), filepath.Join(from, "disk/volumes"))
	if err := os.Symlink("nowhere", places.Host.Ingress.Certificates[0].CertFile); err != nil {
		t.Fatal(err)
	}
	file, made := archive(t, places, "this")
	if len(made.Remarks) != 1 || !strings.Contains(made.Remarks[0], "cert.pem is not there") {
		t.Errorf("remarks %q", made.Remarks)
	}
	for _, linked := range []bool{false, true} {
		to := t.TempDir()
		moved := renamed(t, file, from, to)
		there := placesIn(to)
		if linked {
			for path, real := range map[string]string{there.Host.Sources[2].Path: "real/specs", there.Layout().Volumes(): "real/volumes"} {
				real = filepath.Join(to, real)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.MkdirAll(real, 0o755), os.Symlink(real, path)); err != nil {
					t.Fatal(err)
				}
			}
			real := there.Host.Ingress.Certificates[0].KeyFile
			if err := errors.Join(os.MkdirAll(filepath.Dir(real), 0o755), os.WriteFile(real+".1", []byte("key"), 0o600), os.Symlink(real+".1", real)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := back(t, to, moved); err != nil {
			t.Fatalf("linked %v: %v", linked, err)
		}
		for path, want := range map[string]string{
			filepath.Join(there.Host.Sources[2].Path, ".tekton-source"): "", there.Host.Ingress.Certificates[0].KeyFile: "key",
			filepath.Join(there.Layout().Volumes(), "container/web/data/tree/a/plain"): "plain",
		} {
			if got := string(read1(t, path)); got != want {
				t.Errorf("linked %v: %s holds %q", linked, path, got)
			}
		}
		for _, path := range []string{there.Host.Sources[2].Path, there.Layout().Volumes(), there.Host.Ingress.Certificates[0].KeyFile} {
			if is := lstat(t, path).Mode().Type() == fs.ModeSymlink; is != linked {
				t.Errorf("linked %v: %s is a link: %v", linked, path, is)
			}
		}
	}
}

// TestLinksOfCertbot: with the directory in which they are, links that the Host names
// come back as links.
func TestLinksOfCertbot(t *testing.T) {
	needRoot(t)
	from, to := t.TempDir(), t.TempDir()
	furnish(t, placesIn(from))
	also := placesIn(from).Also[0]
	link := filepath.Join(also, "live/key.pem")
	if err := errors.Join(os.Mkdir(filepath.Dir(link), 0o700), os.WriteFile(filepath.Join(also, "deep/key1.pem"), []byte("key"), 0o600), os.Symlink("../deep/key1.pem", link)); err != nil {
		t.Fatal(err)
	}
	at := func(dir string) Places {
		p := placesIn(dir)
		p.Host.Ingress.Certificates[0].KeyFile = filepath.Join(dir, "also/live/key.pem")
		return p
	}
	file, _ := archive(t, at(from), "this")
	if _, err := Restore(t.Context(), RestoreOptions{Places: at(to), Archive: bytes.NewReader(read1(t, renamed(t, file, from, to))), MachineID: "this"}); err != nil {
		t.Fatal(err)
	}
	if target, err := os.Readlink(filepath.Join(to, "also/live/key.pem")); err != nil || target != "../deep/key1.pem" {
		t.Errorf("it leads to %q: %v", target, err)
	}
}

// TestStateLeadsNowhere: data on a disk that is away is not taken for none, and no
// restore begins that could not come to its end.
func TestStateLeadsNowhere(t *testing.T) {
	needRoot(t)
	from, to := t.TempDir(), t.TempDir()
	furnish(t, placesIn(from))
	file, _ := archive(t, placesIn(from), "this")
	l := placesIn(to).Layout()
	if err := errors.Join(os.MkdirAll(l.State, 0o755), os.Symlink("/nowhere/at/all", l.Volumes())); err != nil {
		t.Fatal(err)
	}
	if _, err := back(t, to, renamed(t, file, from, to)); err == nil || !strings.Contains(err.Error(), "leads nowhere") {
		t.Errorf("restore: %v", err)
	}
	if _, err := os.Lstat(l.Restoring()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
	if _, err := Create(t.Context(), io.Discard, CreateOptions{Places: placesIn(to), HostFile: []byte("kind: Host\n")}); err == nil || !strings.Contains(err.Error(), "leads nowhere") {
		t.Errorf("create: %v", err)
	}
}

// TestLongPath: what no directory can have a name for is told.
func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("ü", 50))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	places := placesIn(t.TempDir())
	places.Also = []string{dir}
	m, err := Create(t.Context(), io.Discard, CreateOptions{Places: places, HostFile: []byte("kind: Host\n"), Remarks: []string{"one more"}})
	if remarks := strings.Join(m.Remarks, "\n"); err != nil || !strings.Contains(remarks, "too long") || !strings.Contains(remarks, "one more") {
		t.Errorf("%v, remarks %s", err, remarks)
	}
}

// TestReplace: what an archive may have comes to another file system, also once more
// after it was cut short.
func TestReplace(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "src"), t.TempDir()
	plant(t, src)
	for _, name := range []string{"a/plain", "a/link", "fifo", "whiteout"} {
		from, to := filepath.Join(src, name), filepath.Join(dst, filepath.Base(name))
		info, err := os.Lstat(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue // only root makes it
		}
		again := filepath.Join(src, "again")
		if err == nil {
			err = errors.Join(os.Link(from, again), replace(from, to, info), replace(again, to, info))
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		is, was := stat(lstat(t, to)), stat(info)
		if is.Mode&unix.S_IFMT != was.Mode&unix.S_IFMT || is.Mode&0o777 != was.Mode&0o777 || is.Uid != was.Uid || is.Gid != was.Gid {
			t.Errorf("%s is %o of %d:%d, was %o of %d:%d", name, is.Mode, is.Uid, is.Gid, was.Mode, was.Uid, was.Gid)
		}
		if _, err := os.Lstat(from); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
	if target, err := os.Readlink(filepath.Join(dst, "link")); err != nil || target != "../../outside" {
		t.Errorf("the link leads to %q: %v", target, err)
	}
}
