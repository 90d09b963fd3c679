package backup

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"
)

// xattrRecord begins the record of an extended attribute in a header, as GNU
// tar and bsdtar write it. Access lists and capabilities are such attributes.
const xattrRecord = "SCHILY.xattr."

// sum adds the entries of a part up. Who writes an archive and who reads one
// make it of the same: what an entry is, then what it holds.
type sum struct {
	part Part
	hash hash.Hash
}

func newSum(part string) *sum { return &sum{part: Part{Name: part}, hash: sha256.New()} }

// entry takes an entry in; what is then written is its content.
func (s *sum) entry(h *tar.Header) {
	s.part.Entries++
	fmt.Fprintf(s.hash, "%q %c %o %d %d %d %d %q %d %d", strings.TrimSuffix(h.Name, "/"), h.Typeflag, h.Mode, h.Uid, h.Gid, h.Size, h.ModTime.UnixNano(), h.Linkname, h.Devmajor, h.Devminor)
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		if strings.HasPrefix(key, xattrRecord) {
			fmt.Fprintf(s.hash, " %q=%q", key, h.PAXRecords[key])
		}
	}
	s.hash.Write([]byte{'\n'})
}

func (s *sum) Write(b []byte) (int, error) {
	s.part.Bytes += int64(len(b))
	return s.hash.Write(b)
}

func (s *sum) end() Part {
	s.part.SHA256 = hex.EncodeToString(s.hash.Sum(nil))
	return s.part
}
