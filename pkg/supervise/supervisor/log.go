package supervisor

import (
	"bytes"
	"io"
	"os"
	"time"

	"tekton.host/pkg/supervise/contract"
)

const (
	// defaultLogMax applies when the spec gives no bound.
	defaultLogMax = 2 << 20
	// logChunk is read at once: what a pipe gives in one read at most under load.
	logChunk = 16 << 10
)

// boundedLog keeps at most two halves: LogFile, and the older LogFile + ".1".
type boundedLog struct {
	half  int64
	file  *os.File
	size  int64
	times times
}

func openLog(limit int64) (*boundedLog, error) {
	if limit <= 0 {
		limit = defaultLogMax
	}
	l := &boundedLog{half: max(limit/2, 1)}
	l.times.max = max(l.half/4, timesMin)
	if err := l.open(); err != nil {
		return l, err
	}
	l.times.start(l.file, time.Now())
	return l, nil
}

func (l *boundedLog) open() error {
	f, err := os.OpenFile(contract.LogFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.file, l.size = f, info.Size()
	l.times.begin(f)
	return nil
}

// Write never fails: a full disk loses lines, but must not stop the process
// that waits for its pipe to be read.
func (l *boundedLog) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		n := l.fits(p)
		if n == 0 {
			l.rotate()
			continue
		}
		l.times.stamp(l.file, time.Now())
		written, _ := l.file.Write(p[:n])
		l.size += int64(written)
		p = p[n:]
	}
	return total, nil
}

// fits returns how much of p goes into the present half: all, or up to its
// last line end, or, when a line alone fills a half, as much as there is room.
func (l *boundedLog) fits(p []byte) int {
	room := max(l.half-l.size, 0)
	if l.times.full() && l.size > 0 {
		room = 0
	}
	if int64(len(p)) <= room {
		return len(p)
	}
	if i := bytes.LastIndexByte(p[:room], '\n'); i >= 0 {
		return i + 1
	}
	if l.size > 0 {
		return 0
	}
	return int(room)
}

func (l *boundedLog) rotate() {
	err := os.Rename(contract.LogFile, contract.LogFile+".1")
	old := l.file
	if err == nil {
		l.times.rotate()
		err = l.open()
	}
	if err != nil {
		// Without a second half begin the first one again: bounded comes first.
		_ = old.Truncate(0)
		l.file, l.size = old, 0
		_ = os.Remove(contract.TimesFile)
		l.times.begin(old)
		return
	}
	old.Close()
}

// copyFrom writes what r yields until its end.
func (l *boundedLog) copyFrom(r io.Reader) {
	buf := make([]byte, logChunk)
	for {
		n, err := r.Read(buf)
		l.Write(buf[:n])
		if err != nil {
			return
		}
	}
}
