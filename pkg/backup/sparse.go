package backup

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	blockSize = 512
	// maxSegments of one file: readers refuse a table of more than 1 MiB, of which
	// one stretch takes up to 40 bytes.
	maxSegments = 26_000
)

// segment is a stretch of a file that holds data.
type segment struct{ at, length int64 }

// segments are the stretches of a file of a size that hold data, not too many of
// them. Where the file system does not tell, that is all of it.
func segments(f *os.File, size int64) ([]segment, error) {
	var out []segment
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole up to the end
		}
		if errors.Is(err, unix.EINVAL) {
			return []segment{{0, size}}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("look for holes: %w", err)
		}
		hole, err := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		if errors.Is(err, unix.ENXIO) {
			break // it was cut meanwhile, and is filled up with zeros
		}
		if err != nil {
			return nil, fmt.Errorf("look for holes: %w", err)
		}
		if data >= size {
			break // it grew meanwhile
		}
		out = append(out, segment{data, min(hole, size) - data})
		at = hole
		if len(out) > 2*maxSegments {
			out = joined(out)
		}
	}
	return joined(out), nil
}

// joined are as many stretches as there may be: shortest holes are taken for data.
func joined(segments []segment) []segment {
	excess := len(segments) - maxSegments
	if excess <= 0 {
		return segments
	}
	end := func(s segment) int64 { return s.at + s.length }
	var holes []int64
	for i := range segments[1:] {
		holes = append(holes, segments[i+1].at-end(segments[i]))
	}
	short := slices.Sorted(slices.Values(holes))[excess-1]
	out := segments[:1]
	for i, s := range segments[1:] {
		if excess > 0 && holes[i] <= short {
			out[len(out)-1].length = end(s) - out[len(out)-1].at
			excess--
		} else {
			out = append(out, s)
		}
	}
	return out
}

// sparseMap is what GNU's format 1.0 has before the data of a file with holes:
// how many stretches, and where each is. The last one says where the file ends.
func sparseMap(segments []segment, size int64) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d\n", len(segments)+1)
	for _, s := range segments {
		fmt.Fprintf(&b, "%d\n%d\n", s.at, s.length)
	}
	fmt.Fprintf(&b, "%d\n0\n", size)
	return append(b.Bytes(), make([]byte, padding(int64(b.Len())))...)
}

func padding(n int64) int64 { return (blockSize - n%blockSize) % blockSize }

// sparseHeader makes the headers of a file with holes, of which stored bytes
// follow: archive/tar reads them, and does not write them.
func sparseHeader(h *tar.Header, stored int64) ([]byte, error) {
	records := map[string]string{
		"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": h.Name, "GNU.sparse.realsize": strconv.FormatInt(h.Size, 10),
		"size": strconv.FormatInt(stored, 10), "uid": strconv.Itoa(h.Uid), "gid": strconv.Itoa(h.Gid),
		"mtime": timeRecord(h.ModTime),
	}
	maps.Copy(records, h.PAXRecords)
	var body []byte
	for _, key := range slices.Sorted(maps.Keys(records)) {
		body = append(body, record(key, records[key])...)
	}
	// What the records say wins over what has no room in the old header.
	plain := tar.Header{Typeflag: tar.TypeReg, Name: "sparse", Mode: h.Mode, Format: tar.FormatUSTAR}
	extended, err := rawHeader(tar.Header{Typeflag: tar.TypeReg, Name: "PaxHeaders/sparse", Size: int64(len(body)), Format: tar.FormatUSTAR}, tar.TypeXHeader)
	if err != nil {
		return nil, err
	}
	if stored < 1<<33 {
		plain.Size = stored
	}
	main, err := rawHeader(plain, tar.TypeReg)
	if err != nil {
		return nil, err
	}
	body = append(body, make([]byte, padding(int64(len(body))))...)
	return slices.Concat(extended, body, main), nil
}

// timeRecord is a time since 1970. What is before has a sign for all of it, so the
// fraction counts back, too.
func timeRecord(t time.Time) string {
	sign, seconds, fraction := "", t.Unix(), t.Nanosecond()
	if seconds < 0 && fraction > 0 {
		sign, seconds, fraction = "-", -(seconds + 1), 1e9-fraction
	}
	return fmt.Sprintf("%s%d.%09d", sign, seconds, fraction)
}

// record is one of an extended header; its length counts itself.
func record(key, value string) string {
	rest := " " + key + "=" + value + "\n"
	n := len(rest)
	for n != len(rest)+len(strconv.Itoa(n)) {
		n = len(rest) + len(strconv.Itoa(n))
	}
	return strconv.Itoa(n) + rest
}

// rawHeader is the block of a header, with another type.
func rawHeader(h tar.Header, typeflag byte) ([]byte, error) {
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&h); err != nil {
		return nil, err
	}
	block := b.Bytes()[:blockSize]
	const typeAt, sumAt, sumEnd = 156, 148, 156
	block[typeAt] = typeflag
	copy(block[sumAt:sumEnd], "        ")
	total := 0
	for _, c := range block {
		total += int(c)
	}
	copy(block[sumAt:sumEnd], fmt.Sprintf("%06o\x00 ", total))
	return block, nil
}

// zeros are what a hole reads as.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// punching writes a file and leaves holes where nothing but zeros would be.
type punching struct {
	f    *os.File
	size int64
}

func (p *punching) Write(b []byte) (int, error) {
	const page = 4096
	for done := 0; done < len(b); {
		part := b[done:min(done+page, len(b))]
		if len(bytes.Trim(part, "\x00")) > 0 {
			if _, err := p.f.WriteAt(part, p.size); err != nil {
				return done, err
			}
		}
		done += len(part)
		p.size += int64(len(part))
	}
	return len(b), nil
}

// end gives the file its size, should it end with a hole.
func (p *punching) end() error { return p.f.Truncate(p.size) }

var _ io.Writer = (*punching)(nil)
