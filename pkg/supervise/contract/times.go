package contract

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Stamp says that what follows Offset in a log was written at Second or later.
// Older supervisors write none: nothing but showing a part of a log needs them.
type Stamp struct {
	Second int64 // since 1970
	Offset int64
	Start  bool // of the process
}

const startWord = "start"

// Line is the stamp in a file of times.
func (s Stamp) Line() string {
	line := fmt.Sprintf("%d %d", s.Second, s.Offset)
	if s.Start {
		line += " " + startWord
	}
	return line + "\n"
}

// TimesHeader is the first line of a log's file of times. It names the log by
// its inode: the two are not renamed at the same moment.
func TimesHeader(log *os.File) (string, error) {
	info, err := log.Stat()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %d\n", LogFile, info.Sys().(*syscall.Stat_t).Ino), nil
}

// ParseTimes returns the stamps of a file of times, by offset; ok is false for
// one of another log. Lines that a full disk or a power cut has torn are left out.
func ParseTimes(text []byte, header string) (stamps []Stamp, ok bool) {
	lines, ok := bytes.CutPrefix(text, []byte(header))
	if !ok {
		return nil, false
	}
	for line := range strings.Lines(string(lines)) {
		s, valid := ParseStamp(line)
		if n := len(stamps); valid && (n == 0 || stamps[n-1].Offset <= s.Offset) {
			stamps = append(stamps, s)
		}
	}
	return stamps, true
}

// ParseStamp reads a line of a file of times.
func ParseStamp(line string) (s Stamp, ok bool) {
	fields := strings.Fields(line)
	if !strings.HasSuffix(line, "\n") || len(fields) < 2 || len(fields) > 3 {
		return s, false
	}
	second, errSecond := strconv.ParseInt(fields[0], 10, 64)
	offset, errOffset := strconv.ParseInt(fields[1], 10, 64)
	start := len(fields) == 3
	return Stamp{second, offset, start}, errSecond == nil && errOffset == nil && offset >= 0 && (!start || fields[2] == startWord)
}
