package backup

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Verify reads an archive to its end and says what it is. An error says that it
// is no whole one.
func Verify(r io.Reader) (Manifest, error) {
	return read(r, func(*tar.Header, io.Reader) error { return nil })
}

// HostFile is the Host file of an archive, which is read to its end.
func HostFile(r io.Reader) (text []byte, err error) {
	_, err = read(r, func(h *tar.Header, content io.Reader) error {
		if h.Name != PartHost {
			return nil
		}
		text, err = io.ReadAll(io.LimitReader(content, maxDocument))
		return err
	})
	if err != nil {
		return nil, err
	}
	return text, nil
}

// reader reads one archive.
type reader struct {
	tar  *tar.Reader
	head Head
	sums []*sum
	dirs map[string]bool // that the archive has, of the part that is read
}

// read gives each entry of an archive to visit, in the archive's order, and only
// then knows whether it is a whole one. What visit leaves of a content is read.
func read(r io.Reader, visit func(*tar.Header, io.Reader) error) (Manifest, error) {
	in, err := expanded(r)
	if err != nil {
		return Manifest{}, err
	}
	a := &reader{tar: tar.NewReader(in), dirs: map[string]bool{}}
	if err := a.begin(); err != nil {
		return Manifest{}, err
	}
	for {
		h, err := a.tar.Next()
		if err != nil {
			return Manifest{}, cut(err)
		}
		if h.Name == manifestName {
			break
		}
		if err := a.entry(h, visit); err != nil {
			return Manifest{}, err
		}
	}
	m, err := a.end()
	if err != nil {
		return Manifest{}, err
	}
	return m, nothingFollows(in)
}

// expanded is the tar stream of an archive, gzipped or not.
func expanded(r io.Reader) (io.Reader, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	magic, err := in.Peek(2)
	if err != nil {
		return nil, cut(err)
	}
	if !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return in, nil
	}
	out, err := gzip.NewReader(in)
	if err != nil {
		return nil, cut(err)
	}
	return out, nil
}

// cut explains an archive that cannot be read on.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it ends before its manifest, as one that was not finished does: %w", errDamaged)
	}
	_, corrupt := errors.AsType[flate.CorruptInputError](err)
	if corrupt || errors.Is(err, tar.ErrHeader) || errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return fmt.Errorf("read the archive: %w", err)
}

func (a *reader) begin() error {
	h, err := a.tar.Next()
	if err != nil {
		return cut(err)
	}
	if h.Name != headName {
		return fmt.Errorf("it is no backup of tekton: it begins with %q", h.Name)
	}
	if a.head, _, err = decode[Head](a.tar, headName); err != nil {
		return err
	}
	if a.head.Format < 1 || a.head.Format > Format {
		return fmt.Errorf("it has format %d, and was made by tekton %s; this one reads up to %d", a.head.Format, a.head.Tekton, Format)
	}
	return nil
}

// entry checks one, and gives it to visit.
func (a *reader) entry(h *tar.Header, visit func(*tar.Header, io.Reader) error) error {
	part, err := a.check(h)
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if len(a.sums) == 0 || a.sums[len(a.sums)-1].part.Name != part {
		if slices.ContainsFunc(a.sums, func(s *sum) bool { return s.part.Name == part }) {
			return fmt.Errorf("%w: part %s is in it twice", errDamaged, part)
		}
		a.sums = append(a.sums, newSum(part))
	}
	s := a.sums[len(a.sums)-1]
	s.entry(h)
	content := io.TeeReader(a.tar, s)
	if err := visit(h, content); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, content); err != nil {
		return cut(err)
	}
	return nil
}

// check says which part an entry is of, and refuses what no archive of ours has.
func (a *reader) check(h *tar.Header) (part string, err error) {
	name, err := cleanName(h.Name)
	if err != nil {
		return "", err
	}
	if part, err = partOf(name); err != nil {
		return "", err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeFifo:
	case tar.TypeLink:
		target, err := cleanName(h.Linkname)
		if err != nil {
			return "", err
		}
		if of, err := partOf(target); err != nil || of != part || target == part || !a.dirs[path.Dir(target)] {
			return "", fmt.Errorf("%q is a link to %q, outside of what it is a part of", name, target)
		}
	case tar.TypeChar:
		if h.Devmajor != 0 || h.Devminor != 0 {
			return "", fmt.Errorf("%q is a device", name)
		}
	default:
		return "", fmt.Errorf("%q has type %q", name, h.Typeflag)
	}
	if name == part && h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir {
		return "", fmt.Errorf("part %q is no file and no directory", name)
	}
	if h.Mode&^0o7777 != 0 || h.Uid < 0 || h.Gid < 0 || h.Size < 0 {
		return "", fmt.Errorf("%q has mode %o, owner %d:%d and size %d", name, h.Mode, h.Uid, h.Gid, h.Size)
	}
	if name == part {
		clear(a.dirs)
	} else if !a.dirs[path.Dir(name)] {
		return "", fmt.Errorf("%q is in no directory of the archive", name)
	}
	if h.Typeflag == tar.TypeDir {
		a.dirs[name] = true
	}
	return part, nil
}

// end reads the manifest, and compares what was read with it.
func (a *reader) end() (Manifest, error) {
	m, raw, err := decode[Manifest](a.tar, manifestName)
	if err != nil {
		return Manifest{}, err
	}
	if h, err := a.tar.Next(); err != nil {
		return Manifest{}, cut(err)
	} else if h.Name != sumName {
		return Manifest{}, fmt.Errorf("%w: %q follows its manifest", errDamaged, h.Name)
	}
	digest := sha256.Sum256(raw)
	said, err := io.ReadAll(io.LimitReader(a.tar, 2*sha256.Size+2))
	if err != nil {
		return Manifest{}, cut(err)
	}
	if strings.TrimSpace(string(said)) != hex.EncodeToString(digest[:]) {
		return Manifest{}, fmt.Errorf("%w: its manifest is not the one that was written", errDamaged)
	}
	if h, err := a.tar.Next(); err == nil {
		return Manifest{}, fmt.Errorf("%w: %q follows its end", errDamaged, h.Name)
	} else if err != io.EOF {
		return Manifest{}, cut(err)
	}
	if m.Head != a.head {
		return Manifest{}, fmt.Errorf("%w: its end is that of another one", errDamaged)
	}
	var have []Part
	for _, s := range a.sums {
		have = append(have, s.end())
	}
	if !slices.Equal(have, m.Parts) {
		return Manifest{}, fmt.Errorf("%w: %s", errDamaged, difference(have, m.Parts))
	}
	return m, nil
}

// difference names the first part that is not as the manifest has it.
func difference(have, want []Part) string {
	for i, p := range want {
		if i >= len(have) || have[i] != p {
			return fmt.Sprintf("part %s is not what was written", p.Name)
		}
	}
	return "it has more parts than were written"
}

// nothingFollows reads what is left: the checksum of a gzipped stream is at its
// end, and a tar stream ends with zeros.
func nothingFollows(in io.Reader) error {
	buffer := make([]byte, 64<<10)
	for {
		n, err := in.Read(buffer)
		if len(bytes.Trim(buffer[:n], "\x00")) > 0 {
			return fmt.Errorf("%w: something follows its end", errDamaged)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return cut(err)
		}
	}
}
