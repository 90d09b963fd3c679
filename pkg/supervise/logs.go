package supervise

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/host"
)

// LogOptions of OpenLog.
type LogOptions struct {
	Tail     int       // begin with the last Tail lines; negative: with the oldest kept
	Since    time.Time // leave out what was written before; zero: nothing
	Previous bool      // only what the start before the last one wrote; ErrNoPrevious if nothing
	Follow   bool      // go on with what is added, over rotations, until ctx ends
}

// ErrNoPrevious says that nothing of an earlier start is kept.
var ErrNoPrevious = errors.New("no log of an earlier start is kept")

// OpenLog reads dir's log as one stream. With Follow, Read waits for more and
// returns io.EOF when ctx ends. A directory without a log reads as empty.
func OpenLog(ctx context.Context, dir string, o LogOptions) (io.ReadCloser, error) {
	r := &logReader{ctx: ctx, dir: dir}
	if o.Follow {
		queue, err := newInotify()
		if err != nil {
			return nil, err
		}
		r.queue = &queue
		r.release = context.AfterFunc(ctx, func() { queue.file.Close() })
		if _, err := queue.add(dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_FROM|unix.IN_ONLYDIR); err != nil {
			r.Close()
			return nil, err
		}
	}
	err := r.openBoth()
	if err == nil && o.Previous {
		err = r.cutToPrevious()
	}
	if err == nil && !o.Since.IsZero() {
		err = r.skipBefore(o.Since)
	}
	if err == nil && o.Tail >= 0 {
		err = r.skipTo(o.Tail)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// logReader reads parts in order; the last of them is, or was, of LogFile.
type logReader struct {
	ctx     context.Context
	dir     string
	parts   []*part
	queue   *inotify // nil: do not follow
	release func() bool
}

// part is what is wanted of a file.
type part struct {
	*os.File
	at  int64 // what is read next
	end int64 // negative: however long it grows
}

func (p *part) Read(b []byte) (int, error) {
	if p.end >= 0 {
		b = b[:min(int64(len(b)), max(p.end-p.at, 0))]
		if len(b) == 0 {
			return 0, io.EOF
		}
	}
	n, err := p.ReadAt(b, p.at)
	p.at += int64(n)
	return n, err
}

// size is where what is wanted ends now.
func (p *part) size() (int64, error) {
	if p.end >= 0 {
		return p.end, nil
	}
	info, err := p.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (r *logReader) Read(p []byte) (int, error) {
	for {
		for len(r.parts) > 0 {
			n, err := r.parts[0].Read(p)
			if n > 0 {
				return n, nil
			}
			if err != nil && err != io.EOF {
				return 0, err
			}
			if len(r.parts) == 1 {
				break
			}
			r.parts[0].Close()
			r.parts = r.parts[1:]
		}
		if r.queue == nil {
			return 0, io.EOF
		}
		if more, err := r.rotated(); err != nil || more {
			if err != nil {
				return 0, err
			}
			continue
		}
		if _, err := r.queue.file.Read(make([]byte, 4096)); err != nil {
			if r.ctx.Err() != nil {
				return 0, io.EOF
			}
			return 0, err
		}
	}
}

// rotated opens what has become newer than the file that was read to its end.
// That file may have grown before it was renamed, so it stays first.
func (r *logReader) rotated() (bool, error) {
	if len(r.parts) == 0 {
		err := r.openBoth()
		return len(r.parts) > 0, err
	}
	now, err := os.Stat(r.path(LogFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	last, err := r.parts[0].Stat()
	if err != nil || os.SameFile(now, last) {
		return false, err
	}
	old := r.parts[0]
	r.parts = nil
	err = r.openBoth()
	if len(r.parts) == 2 {
		if older, e := r.parts[0].Stat(); e == nil && os.SameFile(older, last) {
			r.parts[0].Close()
			r.parts = r.parts[1:]
		}
	}
	r.parts = append([]*part{old}, r.parts...)
	return len(r.parts) > 1, err
}

// openBoth opens the older and the newer half, as far as they exist.
func (r *logReader) openBoth() error {
	for {
		newer, err := open(r.path(LogFile))
		if err != nil {
			return err
		}
		older, err := open(r.path(LogFile + ".1"))
		if err != nil {
			return errors.Join(err, closeAll(newer))
		}
		if newer != nil && older != nil {
			a, errA := newer.Stat()
			b, errB := older.Stat()
			if errA == nil && errB == nil && os.SameFile(a, b) {
				// Rotated between the two: there is a newer one already.
				closeAll(newer, older)
				continue
			}
		}
		for _, f := range []*os.File{older, newer} {
			if f != nil {
				r.parts = append(r.parts, &part{File: f, end: -1})
			}
		}
		return nil
	}
}

// skipTo moves to the last n lines.
func (r *logReader) skipTo(n int) error {
	for i := len(r.parts) - 1; i >= 0; i-- {
		found, err := r.parts[i].skipTo(n)
		if err != nil {
			return err
		}
		if n -= found; n <= 0 {
			return r.dropBefore(i)
		}
	}
	return nil
}

// dropBefore closes the parts before number i.
func (r *logReader) dropBefore(i int) error {
	before := r.parts[:i]
	r.parts = r.parts[i:]
	return closeParts(before)
}

// skipTo moves to the begin of the last n lines, or stays, and returns how many
// lines follow. It reads backwards.
func (p *part) skipTo(n int) (found int, err error) {
	size, err := p.size()
	if err != nil {
		return 0, err
	}
	if n == 0 {
		p.at = size
		return 0, nil
	}
	buf := make([]byte, 8<<10)
	for end := size; end > p.at; {
		begin := max(end-int64(len(buf)), p.at)
		chunk := buf[:end-begin]
		if _, err := p.ReadAt(chunk, begin); err != nil && err != io.EOF {
			return 0, err
		}
		for i := len(chunk); i > 0; {
			i = bytes.LastIndexByte(chunk[:i], '\n')
			if i < 0 {
				break
			}
			at := begin + int64(i) + 1
			if at == size {
				continue
			}
			if found++; found == n {
				p.at = at
				return found, nil
			}
		}
		end = begin
	}
	if size > p.at {
		found++
	}
	return found, nil
}

// Close ends the stream.
func (r *logReader) Close() error {
	if r.queue != nil {
		r.release()
		r.queue.file.Close()
	}
	return closeParts(r.parts)
}

func (r *logReader) path(name string) string { return filepath.Join(r.dir, name) }

// open returns nil for a file that does not exist.
func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

func closeParts(parts []*part) error {
	var err error
	for _, p := range parts {
		err = errors.Join(err, p.Close())
	}
	return err
}

func closeAll(files ...*os.File) error {
	var err error
	for _, f := range files {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// MaxLine bounds each line of a log that is kept elsewhere: in a status, an event
// or an error. Who wrote it need not be trusted, and may never end its line.
const MaxLine = 1 << 10

// Lines splits a piece of a log; none is longer than MaxLine.
func Lines(log []byte) []string {
	if len(log) == 0 {
		return nil
	}
	var lines []string
	for line := range bytes.SplitSeq(bytes.TrimSuffix(log, []byte("\n")), []byte("\n")) {
		// A copy: the rest of a long line is not to be held in memory.
		lines = append(lines, host.Shorten(string(line[:min(len(line), MaxLine+1)]), MaxLine))
	}
	return lines
}

// TailLog returns the last n lines of dir's log, as Lines does; nil when there is none.
func TailLog(dir string, n int) []string {
	r, err := OpenLog(context.Background(), dir, LogOptions{Tail: n})
	if err != nil {
		return nil
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return nil
	}
	return Lines(b)
}

// logEnd is where the newer half of the log ends now.
func logEnd(dir string) int64 {
	info, err := os.Stat(filepath.Join(dir, LogFile))
	if err != nil {
		return 0
	}
	return info.Size()
}

// tail returns up to n lines of what was logged since the log ended at from.
func tail(dir string, n int, from int64) []string {
	f, err := open(filepath.Join(dir, LogFile))
	if err != nil || f == nil {
		return nil
	}
	defer f.Close()
	p := &part{File: f, end: -1}
	if _, err := p.skipTo(n); err != nil {
		return nil
	}
	// A file that is shorter than before was rotated: all of it is new.
	if size, err := p.size(); err == nil && p.at < from && from <= size {
		p.at = from
	}
	b, _ := io.ReadAll(p)
	return Lines(b)
}
