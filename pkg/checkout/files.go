package checkout

import (
	"context"
	"strconv"
	"strings"
	"unicode/utf8"

	"tekton.host/pkg/resource"
)

// read reads the files of a commit that are asked for. What is none, or too
// large, is nil: that is no failure of the fetch.
func (f *fetch) read(ctx context.Context, commit string) (map[string]*string, error) {
	if len(f.Files) == 0 {
		return nil, nil
	}
	out := make(map[string]*string, len(f.Files))
	for _, path := range f.Files {
		listed, err := f.repo.Git(ctx, "ls-tree", "-z", "-l", "--full-tree", commit, "--", path)
		if err != nil {
			return nil, f.explain(err)
		}
		out[path] = nil
		id, found := textFile(listed, path)
		if !found {
			continue
		}
		text, err := f.repo.Git(ctx, "cat-file", "blob", id)
		if err != nil {
			return nil, f.explain(err)
		}
		if utf8.ValidString(text) && !strings.ContainsRune(text, 0) {
			out[path] = &text
		}
	}
	return out, nil
}

// textFile returns the object of a regular file that is small enough, from a
// line of ls-tree: MODE TYPE ID SIZE<tab>NAME<nul>. A link is none.
func textFile(listed, path string) (id string, found bool) {
	meta, name, _ := strings.Cut(strings.TrimSuffix(listed, "\x00"), "\t")
	fields := strings.Fields(meta)
	if len(fields) != 4 || name != path || !strings.HasPrefix(fields[0], "100") || fields[1] != "blob" {
		return "", false
	}
	size, err := strconv.ParseInt(fields[3], 10, 64)
	return fields[2], err == nil && size <= resource.MaxCheckoutFile
}
