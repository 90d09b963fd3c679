package doctor

import (
	"slices"
	"strconv"
	"strings"
)

// version is the numbers at the beginning of "2.28.6-dev", or after a word: "v2.6".
type version []int

func parseVersion(s string) version {
	var v version
	s = strings.TrimPrefix(s, "v")
	for part := range strings.SplitSeq(s, ".") {
		digits := part[:len(part)-len(strings.TrimLeft(part, "0123456789"))]
		n, err := strconv.Atoi(digits)
		if err != nil {
			break
		}
		v = append(v, n)
		if digits != part {
			break
		}
	}
	return v
}

func (v version) before(o version) bool { return slices.Compare(v, o) < 0 }

// affected reports whether a version has a flaw that came with one version and
// was mended in several branches: a branch is all but the last number.
func (v version) affected(since string, mended ...string) bool {
	if len(v) == 0 || since != "" && v.before(parseVersion(since)) {
		return false
	}
	last := version(nil)
	for _, m := range mended {
		f := parseVersion(m)
		if branch := f[:len(f)-1]; len(branch) > 0 && len(v) >= len(branch) && slices.Equal(v[:len(branch)], branch) {
			return v.before(f)
		}
		if last.before(f) {
			last = f
		}
	}
	return v.before(last)
}
