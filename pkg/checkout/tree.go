package checkout

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	// maxFiles of a commit.
	maxFiles = 500_000
	// maxEntry bounds one line of a listing.
	maxEntry = 64 << 10
)

// tree sums up what `ls-tree -r -l -z` lists: MODE TYPE ID SIZE<tab>NAME<nul>.
type tree struct {
	maxSize    int64
	files      int
	size       int64
	submodules int
	over       string // which limit is exceeded
	part       []byte
}

var errOver = errors.New("over the limit")

// Write ends the listing when it is enough.
func (t *tree) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		entry, after, ended := bytes.Cut(rest, []byte{0})
		t.part = append(t.part, entry[:min(len(entry), max(maxEntry-len(t.part), 0))]...)
		if ended {
			t.add(string(t.part))
			t.part = t.part[:0]
		}
		if t.over != "" {
			return 0, errOver
		}
		rest = after
	}
	return len(p), nil
}

func (t *tree) add(entry string) {
	meta, _, _ := strings.Cut(entry, "\t")
	f := strings.Fields(meta)
	if len(f) != 4 {
		return
	}
	if f[1] == "commit" {
		t.submodules++
	}
	if size, err := strconv.ParseInt(f[3], 10, 64); err == nil {
		t.size += size
	}
	switch t.files++; {
	case t.files > maxFiles:
		t.over = fmt.Sprintf("it has more than %d files", maxFiles)
	case t.size > t.maxSize:
		t.over = fmt.Sprintf("its files have more than %d bytes", t.maxSize)
	}
}
