package transfer_test

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/machine/transfer"
)

var then = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// plant makes files below a directory: "NAME/" is a directory, a text "-> X" a link.
func plant(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch target, link := strings.CutPrefix(text, "-> "); {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case link:
			err = os.Symlink(target, path)
		case err == nil:
			err = os.WriteFile(path, []byte(text), 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// grown is what plant would make of a directory.
func grown(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		switch {
		case d.IsDir():
			out[name+"/"] = ""
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			out[name] = "-> " + target
			return err
		default:
			text, err := os.ReadFile(path)
			out[name] = string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCopy(t *testing.T) {
	tree := map[string]string{"src/a": "1", "src/deep/b": "2", "src/empty/": "", "src/link": "-> /etc/passwd", "lone": "3", "alias": "-> src"}
	for name, tt := range map[string]struct {
		from, to string
		there    map[string]string
		want     map[string]string
	}{
		"directory to a new name": {"src", "new", nil, map[string]string{"new/": "", "new/a": "1", "new/deep/": "", "new/deep/b": "2", "new/empty/": "", "new/link": "-> /etc/passwd"}},
		"directory into one":      {"src/deep", "there", map[string]string{"there/x": "y"}, map[string]string{"there/": "", "there/x": "y", "there/deep/": "", "there/deep/b": "2"}},
		"with a slash":            {"src/deep/", "", nil, map[string]string{"deep/": "", "deep/b": "2"}},
		"what a link leads to":    {"alias/deep", "new", nil, map[string]string{"new/": "", "new/b": "2"}},
		"file to a new name":      {"lone", "new", nil, map[string]string{"new": "3"}},
		"file over another":       {"lone", "old", map[string]string{"old": "much longer"}, map[string]string{"old": "3"}},
		"file into a directory":   {"lone", "there", map[string]string{"there/": ""}, map[string]string{"there/": "", "there/lone": "3"}},
		"file over a link":        {"lone", "there", map[string]string{"there/lone": "-> ../victim", "victim": "v"}, map[string]string{"there/": "", "there/lone": "3", "victim": "v"}},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := t.TempDir(), t.TempDir()
			plant(t, from, tree)
			plant(t, to, tt.there)
			for _, name := range []string{"lone", "src/deep/b", "src/deep"} {
				if err := os.Chtimes(filepath.Join(from, name), then, then); err != nil {
					t.Fatal(err)
				}
			}
			var stream bytes.Buffer
			if err := transfer.Pack(&stream, from+"/"+tt.from, func(name, why string) { t.Errorf("%s %s", name, why) }); err != nil {
				t.Fatal(err)
			}
			if err := transfer.Unpack(&stream, filepath.Join(to, tt.to), ""); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, grown(t, to)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for name, text := range tt.want {
				info, err := os.Lstat(filepath.Join(to, name))
				if (text == "2" || text == "3") && (err != nil || info.Mode().Perm() != 0o640 || !info.ModTime().Equal(then)) {
					t.Errorf("%s: %v, %v", name, info, err)
				}
			}
		})
	}
}

// What is no file is left out, and said; a set-user-id bit does not travel.
func TestPackLeavesOut(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	plant(t, from, map[string]string{"src/su": "x"})
	if err := os.Chmod(from+"/src/su", 0o755|fs.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(from+"/src/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	var skipped []string
	if err := transfer.Pack(&stream, from+"/src", func(name, why string) { skipped = append(skipped, name+" "+why) }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"src/pipe is no file, directory or link"}, skipped); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := transfer.Pack(io.Discard, from+"/src/pipe", nil); err == nil {
		t.Error("a pipe was copied")
	}
	if err := transfer.Unpack(&stream, to, ""); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(to + "/src/su"); err != nil || info.Mode() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
}

// What a copy is called in a directory is what was asked for, whatever the stream says.
func TestUnpackAs(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	plant(t, from, map[string]string{".ssh/authorized_keys": "1", ".bashrc": "2"})
	if err := os.Chmod(from+"/.ssh", 0o750); err != nil {
		t.Fatal(err)
	}
	for name, base := range map[string]string{".ssh": "logs", ".bashrc": "log"} {
		var stream bytes.Buffer
		if err := transfer.Pack(&stream, filepath.Join(from, name), nil); err != nil {
			t.Fatal(err)
		}
		if err := transfer.Unpack(&stream, to, base); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(map[string]string{"log": "2", "logs/": "", "logs/authorized_keys": "1"}, grown(t, to)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if info, err := os.Stat(to + "/logs"); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("the directory: %v, %v", info, err)
	}
}

// A hostile stream reaches nothing but what was asked for.
func TestHostileStreams(t *testing.T) {
	file := func(name string) *tar.Header { return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o777} }
	link := func(name, to string) *tar.Header {
		return &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
	}
	dir := func(name string) *tar.Header {
		return &tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o777}
	}
	for name, tt := range map[string]struct {
		base    string
		entries []*tar.Header
	}{
		"up":                      {"", []*tar.Header{file("../victim")}},
		"up, later":               {"", []*tar.Header{file("a/../../victim")}},
		"up, as the first part":   {"", []*tar.Header{dir(".."), file("../victim")}},
		"absolute":                {"", []*tar.Header{file("/victim")}},
		"up, in a directory":      {"asked", []*tar.Header{dir("a"), file("../victim")}},
		"another name":            {"asked", []*tar.Header{file("asked"), file(".bashrc")}},
		"another name, first":     {"asked", []*tar.Header{file(".bashrc"), file("asked")}},
		"another tree":            {"asked", []*tar.Header{dir(".ssh"), file(".ssh/authorized_keys"), file(".bashrc")}},
		"a link as what is asked": {"asked", []*tar.Header{link("asked", "."), file("asked/.bashrc")}},
		"a link to the outside":   {"asked", []*tar.Header{link("asked", "../beside"), dir("asked")}},
		"link to the destination": {"asked", []*tar.Header{dir("a"), link("a/b", ".."), file("a/b/.bashrc")}},
		"through a link":          {"asked", []*tar.Header{dir("a"), link("a/b", "../../beside"), file("a/b/victim")}},
		"through a link's link":   {"asked", []*tar.Header{dir("a"), link("a/b", "c"), link("a/c", "../../beside"), file("a/b/victim")}},
		"directory of a link":     {"asked", []*tar.Header{dir("a"), link("a/b", "../../beside"), dir("a/b/victim")}},
		"mode of a link":          {"asked", []*tar.Header{dir("a"), link("a/b", "../../beside"), dir("a/b")}},
		"device":                  {"asked", []*tar.Header{dir("a"), {Typeflag: tar.TypeChar, Name: "a/b", Devmajor: 1, Devminor: 3}}},
		"hard link":               {"asked", []*tar.Header{dir("a"), {Typeflag: tar.TypeLink, Name: "a/b", Linkname: "../beside/file"}}},
		"over a directory":        {"there", []*tar.Header{file("there")}},
		"nothing":                 {"asked", nil},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			before := map[string]string{"beside/": "", "beside/file": "1", "dest/": "", "dest/there/": "", "dest/there/x": "2"}
			plant(t, top, before)
			var stream bytes.Buffer
			w := tar.NewWriter(&stream)
			for _, h := range tt.entries {
				if err := w.WriteHeader(h); err != nil {
					t.Fatal(err)
				}
			}
			w.Close()
			if err := transfer.Unpack(&stream, filepath.Join(top, "dest"), tt.base); err == nil {
				t.Error("it was taken")
			}
			after := grown(t, top)
			for name := range after { // what is asked for may be anything
				if strings.HasPrefix(name, "dest/asked") {
					delete(after, name)
				}
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if info, err := os.Stat(top + "/beside"); err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("what is beside: %v, %v", info, err)
			}
		})
	}
}
