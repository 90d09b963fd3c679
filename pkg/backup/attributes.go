package backup

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxAttributes bounds what of attributes is in a header: readers refuse one of more
// than 1 MiB, in which are also the names.
const maxAttributes = 1<<20 - 64<<10

// attributes are the extended attributes of a file: access lists and
// capabilities are among them.
func (p *packer) attributes(f *os.File, name string) map[string]string {
	fd := int(f.Fd())
	list, err := readAttribute(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		p.Remark("the attributes of %q were left out: %v", name, err)
	}
	return p.records(name, list, func(key string) ([]byte, error) {
		return readAttribute(func(b []byte) (int, error) { return unix.Fgetxattr(fd, key, b) })
	})
}

// records of the listed attributes. What cannot be had is told, and no reason to stop.
func (p *packer) records(name string, list []byte, value func(key string) ([]byte, error)) map[string]string {
	records := map[string]string{}
	room := maxAttributes
	for key := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		if key == "" {
			continue
		}
		v, err := value(key)
		size := len(record(xattrRecord+key, string(v)))
		switch {
		case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP):
		case err != nil:
			p.Remark("the attribute %q of %q was left out: %v", key, name, err)
		case strings.Contains(key, "="):
			p.Remark("the attribute %q of %q was left out: an archive cannot have its name", key, name)
		case size > room:
			p.Remark("the attribute %q of %q was left out: it has more of them than an archive can", key, name)
		default:
			records[xattrRecord+key] = string(v)
			room -= size
		}
	}
	return records
}

// readAttribute asks for the size, then for the value, until both fit.
func readAttribute(ask func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := ask(nil)
		if n == 0 || err != nil {
			return nil, err
		}
		b := make([]byte, n)
		n, err = ask(b)
		if errors.Is(err, unix.ERANGE) {
			continue // it grew meanwhile
		}
		return b[:max(n, 0)], err
	}
}
