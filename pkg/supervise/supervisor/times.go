package supervisor

import (
	"io"
	"os"
	"strings"
	"time"

	"tekton.host/pkg/supervise/contract"
)

// timesMin is the least bound of a file of times.
const timesMin = 4 << 10

// times says when what is in the log was written, to the second. Nothing here
// fails: a log without times is still a log.
type times struct {
	max  int64 // size at which the log is rotated, so that the times are bounded too
	file *os.File
	size int64
	last int64 // second of the last stamp
}

// begin opens the times of a log and drops those of another one that was in its
// place: a state directory may come out of a backup.
func (t *times) begin(log *os.File) {
	t.end()
	header, err := contract.TimesHeader(log)
	if err != nil {
		return
	}
	f, err := os.OpenFile(contract.TimesFile, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	t.file, t.size, t.last = f, endOf(f), 0
	if t.read(0, int64(len(header))) != header {
		t.truncate(0)
		t.write(header)
	}
}

func (t *times) end() {
	if t.file != nil {
		t.file.Close()
		t.file = nil
	}
}

// start marks where the output of a start begins. One that said nothing is
// forgotten, so that starts alone make nothing grow.
func (t *times) start(log *os.File, now time.Time) {
	if t.file == nil {
		return
	}
	const longest = 64
	tail := t.read(max(t.size-longest, 0), t.size)
	last := strings.TrimSuffix(tail, "\n")
	last = tail[strings.LastIndexByte(last, '\n')+1:]
	stamp := contract.Stamp{Second: now.Unix(), Offset: endOf(log), Start: true}
	if s, ok := contract.ParseStamp(last); ok && s.Start && s.Offset == stamp.Offset {
		t.truncate(t.size - int64(len(last)))
	}
	t.last = stamp.Second
	t.write(stamp.Line())
}

// stamp is called before something is added to the log.
func (t *times) stamp(log *os.File, now time.Time) {
	if second := now.Unix(); t.file != nil && second != t.last {
		t.last = second
		t.write(contract.Stamp{Second: second, Offset: endOf(log)}.Line())
	}
}

func (t *times) full() bool { return t.file != nil && t.size >= t.max }

func (t *times) rotate() { _ = os.Rename(contract.TimesFile, contract.TimesFile+".1") }

func (t *times) read(from, to int64) string {
	text, _ := io.ReadAll(io.NewSectionReader(t.file, from, to-from))
	return string(text)
}

func (t *times) write(line string) {
	n, _ := t.file.WriteString(line)
	t.size += int64(n)
}

func (t *times) truncate(size int64) {
	if t.file.Truncate(size) == nil {
		t.size = size
	}
}

// endOf asks the file: of a log, its supervisor's standard error goes there too.
func endOf(log *os.File) int64 {
	n, _ := log.Seek(0, io.SeekEnd)
	return n
}
