package backup

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var head = Head{Tekton: "v1", Installation: "0123456789ab", CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}

// pack makes an archive of parts that are paths.
func pack(t *testing.T, plain bool, parts ...string) ([]byte, Manifest) {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, WriterOptions{Head: head, Plain: plain})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		name, path, _ := strings.Cut(part, "=")
		if err := w.Path(name, path); err != nil {
			t.Fatal(err)
		}
	}
	m, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), m
}

func asItWas(string) *unix.Stat_t { return nil }

// plant makes a tree with what trees may hold. Without root it leaves out what
// only root makes.
func plant(t *testing.T, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p := func(name string) string { return filepath.Join(dir, name) }
	must(os.MkdirAll(p("a/b"), 0o750))
	must(os.WriteFile(p("a/plain"), []byte("plain"), 0o644))
	must(os.Chmod(p("a/plain"), 0o4751|os.ModeSetuid))
	must(os.Link(p("a/plain"), p("a/b/second")))
	must(os.Symlink("../../outside", p("a/link")))
	must(os.Symlink("/absolute", p("a/b/absolute")))
	must(os.WriteFile(p("a/not\xffutf8 \n"), []byte("odd"), 0o600))
	must(os.WriteFile(p(strings.Repeat("n", 200)), nil, 0o600))
	must(syscall.Mkfifo(p("fifo"), 0o640))
	sparse, err := os.Create(p("sparse"))
	must(err)
	must(sparse.Truncate(8 << 20))
	_, err = sparse.WriteAt([]byte("in the middle"), 4<<20)
	must(err)
	must(sparse.Close())
	hole, err := os.Create(p("hole"))
	must(err)
	must(hole.Truncate(2 << 20))
	must(hole.Close())
	must(unix.Setxattr(p("sparse"), "user.kept", []byte("a\x00b"), 0))
	must(unix.Setxattr(p("a"), "user.kept", []byte("of a directory"), 0))
	must(os.Chtimes(p("a/b/second"), time.Time{}, time.Unix(1700000000, 123456789)))
	must(os.Chtimes(p("a"), time.Time{}, time.Unix(1600000000, 5)))
	if os.Geteuid() != 0 {
		return
	}
	must(os.WriteFile(p("capable"), []byte("#!"), 0o755))
	must(os.Chown(p("capable"), 1234567890, 42))
	// Capabilities as in <linux/capability.h>: version 2, CAP_NET_BIND_SERVICE permitted and effective.
	must(unix.Setxattr(p("capable"), "security.capability", []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0))
	must(os.WriteFile(p("shared"), []byte("x"), 0o600))
	must(os.Lchown(p("a/link"), 1000, 1001))
	must(unix.Mknod(p("whiteout"), unix.S_IFCHR, 0))
	// An access list: user::rw-, user:1000:r--, group::---, mask::r--, other::---.
	must(unix.Setxattr(p("shared"), "system.posix_acl_access", []byte{2, 0, 0, 0,
		1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 232, 3, 0, 0, 4, 0, 0, 0, 255, 255, 255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}, 0))
}

// describe is what can be seen of a tree, with an independent reader for attributes.
func describe(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	first := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		st := stat(info)
		text := fmt.Sprintf("%o %d:%d %d rdev %d", st.Mode, st.Uid, st.Gid, st.Mtim.Nano(), st.Rdev)
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %d blocks<=%d %x", len(content), (st.Blocks+255)/256, fmt.Sprintf("%.40q", bytes.Trim(content, "\x00")))
			if st.Nlink > 1 {
				if first[st.Ino] == "" {
					first[st.Ino] = name
				}
				text += " = " + first[st.Ino]
			}
		case info.Mode().Type() == fs.ModeSymlink:
			target, _ := os.Readlink(path)
			text += " -> " + target
		}
		if info.IsDir() || info.Mode().IsRegular() {
			b := make([]byte, 4096)
			n, err := unix.Listxattr(path, b)
			if err != nil {
				return err
			}
			for _, key := range strings.Fields(strings.ReplaceAll(string(b[:n]), "\x00", " ")) {
				value := make([]byte, 4096)
				n, err := unix.Getxattr(path, key, value)
				if err != nil {
					return err
				}
				text += fmt.Sprintf(" %s=%q", key, value[:n])
			}
		}
		out[name] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	for _, plain := range []bool{false, true} {
		src, dst := filepath.Join(t.TempDir(), "src"), t.TempDir()
		plant(t, src)
		archive, made := pack(t, plain, "state/volumes="+src, "secrets="+filepath.Join(src, "a"), PartHost+"="+filepath.Join(src, "a/plain"))
		if len(made.Remarks) > 0 {
			t.Errorf("remarks %q", made.Remarks)
		}
		if len(archive) > 1<<20 {
			t.Errorf("the archive has %d bytes: holes are in it", len(archive))
		}
		root, err := os.OpenRoot(dst)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		got, err := unpack(bytes.NewReader(archive), root, asItWas, func(int64) {})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(made, got); diff != "" {
			t.Errorf("-made +read:\n%s", diff)
		}
		if diff := cmp.Diff(describe(t, src), describe(t, filepath.Join(dst, "state/volumes"))); diff != "" {
			t.Errorf("-before +after:\n%s", diff)
		}
	}
}

// TestOtherProgramsReadIt: who has lost tekton still has tar.
func TestOtherProgramsReadIt(t *testing.T) {
	gnu, err := exec.LookPath("tar")
	if err != nil {
		t.Fatal(err)
	}
	src, dst := filepath.Join(t.TempDir(), "src"), t.TempDir()
	plant(t, src)
	archive, _ := pack(t, false, "state/volumes="+src)
	file := filepath.Join(t.TempDir(), "archive.tar.gz")
	if err := os.WriteFile(file, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(gnu, "--extract", "--gzip", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--preserve-permissions", "--file", file, "--directory", dst).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if diff := cmp.Diff(describe(t, src), describe(t, filepath.Join(dst, "state/volumes"))); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
}

// TestNothingButTheWholeIsTaken cuts an archive everywhere and changes each of its bytes.
func TestNothingButTheWholeIsTaken(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	if err := os.MkdirAll(src, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(src, "file"), []byte(strings.Repeat("content ", 50)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, plain := range []bool{false, true} {
		archive, made := pack(t, plain, "state/volumes="+src)
		if _, err := Verify(bytes.NewReader(archive)); err != nil {
			t.Fatal(err)
		}
		end := len(archive)
		if plain {
			end = len(bytes.TrimRight(archive, "\x00")) // what ends a tar stream is no content
		}
		for n := range end {
			if _, err := Verify(bytes.NewReader(archive[:n])); err == nil {
				t.Fatalf("plain %v: the first %d of %d bytes are taken for an archive", plain, n, len(archive))
			}
		}
		if _, err := Verify(bytes.NewReader(append(bytes.Clone(archive), "more"...))); err == nil {
			t.Errorf("plain %v: what follows the end is not seen", plain)
		}
		for i := range len(archive) {
			changed := bytes.Clone(archive)
			changed[i] ^= 1
			m, err := Verify(bytes.NewReader(changed))
			// Some bytes of both formats say nothing: then it is what it was.
			if err == nil && !cmp.Equal(m, made) {
				t.Errorf("plain %v: with another byte at %d it is taken for an archive: %+v", plain, i, m)
			}
		}
	}
}

// raw makes an archive of entries that no packer makes, with the right sums.
func raw(t testing.TB, entries ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, WriterOptions{Head: head, Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	part := ""
	for _, h := range entries {
		if of, err := partOf(strings.TrimSuffix(h.Name, "/")); err == nil && of != part {
			if w.sum != nil {
				w.manifest.Parts = append(w.manifest.Parts, w.sum.end())
			}
			w.sum, part = newSum(of), of
		}
		if w.sum == nil {
			w.sum = newSum("state/volumes")
		}
		h.ModTime = head.CreatedAt
		if err := w.tar.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		w.sum.entry(h)
		if _, err := io.CopyN(w.content(), zeros{}, h.Size); err != nil {
			t.Fatal(err)
		}
	}
	w.manifest.Parts = append(w.manifest.Parts, w.sum.end())
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestHostileArchives(t *testing.T) {
	dir := func(name string) *tar.Header { return &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755} }
	file := func(name string) *tar.Header {
		return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: 3}
	}
	link := func(name, to string) *tar.Header {
		return &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}
	}
	hard := func(name, to string) *tar.Header {
		return &tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}
	}
	top := dir("state/volumes")
	cases := map[string][]*tar.Header{
		"absolute name":              {top, file("/etc/passwd")},
		"name that leads out":        {top, file("state/volumes/../../../etc/passwd")},
		"name that leads out at end": {top, dir("state/volumes/..")},
		"name that is not clean":     {top, file("state/volumes//x")},
		"unknown part":               {file("elsewhere")},
		"group without a part":       {dir("state")},
		"no directory above":         {top, file("state/volumes/a/b")},
		"part that is a link":        {link("state/volumes", "/etc")},
		"through a link":             {top, link("state/volumes/a", "/etc"), file("state/volumes/a/passwd")},
		"through a link to here":     {top, link("state/volumes/a", "."), file("state/volumes/a/b")},
		"hard link out":              {top, hard("state/volumes/a", "/etc/passwd")},
		"hard link into another":     {dir("secrets"), file("secrets/a"), top, hard("state/volumes/a", "secrets/a")},
		"hard link through a link":   {top, link("state/volumes/a", "/etc"), hard("state/volumes/b", "state/volumes/a/passwd")},
		"hard link to a part":        {top, hard("state/volumes/a", "state/volumes")},
		"block device":               {top, {Typeflag: tar.TypeBlock, Name: "state/volumes/a", Devmajor: 8}},
		"character device":           {top, {Typeflag: tar.TypeChar, Name: "state/volumes/a", Devmajor: 1, Devminor: 1}},
		"part in two pieces":         {dir("secrets"), top, file("secrets/a")},
		"file over a directory":      {top, dir("state/volumes/a"), file("state/volumes/a")},
		"twice":                      {top, file("state/volumes/a"), file("state/volumes/a")},
		"hard link over a file":      {top, file("state/volumes/a"), file("state/volumes/b"), hard("state/volumes/b", "state/volumes/a")},
	}
	for name, entries := range cases {
		t.Run(name, func(t *testing.T) {
			outer := t.TempDir()
			inner := filepath.Join(outer, "inner")
			if err := os.Mkdir(inner, 0o755); err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(inner)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			archive := raw(t, entries...)
			if _, err := unpack(bytes.NewReader(archive), root, mine, func(int64) {}); err == nil {
				t.Error("was put back")
			}
			if left, _ := os.ReadDir(outer); len(left) != 1 {
				t.Errorf("beside the directory is %v", left)
			}
		})
	}
	good := raw(t, top, file("state/volumes/a"), hard("state/volumes/b", "state/volumes/a"), link("state/volumes/c", "/etc"))
	if _, err := Verify(bytes.NewReader(good)); err != nil {
		t.Errorf("a good one of the same make: %v", err)
	}
}

// mine has files put back as whoever runs the test, which needs no root.
func mine(string) *unix.Stat_t {
	return &unix.Stat_t{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())}
}

func TestLaterFormat(t *testing.T) {
	var b bytes.Buffer
	w := &Writer{out: &b, tar: tar.NewWriter(&b)}
	raw, _ := encode(Head{Format: Format + 1, Tekton: "v99"})
	if err := errors.Join(w.document(headName, raw), w.tar.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(&b); err == nil || !strings.Contains(err.Error(), "v99") {
		t.Errorf("of a later one it says %v", err)
	}
}

// FuzzRead: whatever is read, nothing is written but below the directory.
func FuzzRead(f *testing.F) {
	f.Add(raw(f, &tar.Header{Typeflag: tar.TypeDir, Name: "state/volumes", Mode: 0o755}, &tar.Header{Typeflag: tar.TypeReg, Name: "state/volumes/a", Size: 10}))
	f.Fuzz(func(t *testing.T, archive []byte) {
		outer := t.TempDir()
		root, err := os.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		m, err := unpack(bytes.NewReader(archive), root, mine, func(int64) {})
		if err == nil && m.Format != Format {
			t.Errorf("took %+v", m)
		}
		if left, _ := os.ReadDir(outer); len(left) > 0 {
			t.Errorf("wrote %v", left)
		}
	})
}

// FuzzName: a name that is taken is one below the top.
func FuzzName(f *testing.F) {
	for _, name := range []string{"a", "a/../b", "/a", "..", "a/", ".", "a//b", "state/x"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		clean, err := cleanName(name)
		if err == nil && !filepath.IsLocal(clean) {
			t.Errorf("%q is taken as %q", name, clean)
		}
	})
}
