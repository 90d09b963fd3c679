package supervise

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// LogOptions of OpenLog.
type LogOptions struct {
	Lines  int  // begin with the last Lines lines; 0: from the oldest kept
	Follow bool // go on with what is added, over rotations, until ctx ends
}

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
	if err := r.openBoth(); err != nil {
		r.Close()
		return nil, err
	}
	if o.Lines > 0 {
		if err := r.skipTo(o.Lines); err != nil {
			r.Close()
			return nil, err
		}
	}
	return r, nil
}

// logReader reads files in order; the last of them is, or was, LogFile.
type logReader struct {
	ctx     context.Context
	dir     string
	files   []*os.File
	queue   *inotify // nil: do not follow
	release func() bool
}

func (r *logReader) Read(p []byte) (int, error) {
	for {
		for len(r.files) > 0 {
			n, err := r.files[0].Read(p)
			if n > 0 {
				return n, nil
			}
			if err != nil && err != io.EOF {
				return 0, err
			}
			if len(r.files) == 1 {
				break
			}
			r.files[0].Close()
			r.files = r.files[1:]
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
	if len(r.files) == 0 {
		err := r.openBoth()
		return len(r.files) > 0, err
	}
	now, err := os.Stat(r.path(LogFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	last, err := r.files[0].Stat()
	if err != nil || os.SameFile(now, last) {
		return false, err
	}
	old := r.files[0]
	r.files = nil
	err = r.openBoth()
	if len(r.files) == 2 {
		if older, e := r.files[0].Stat(); e == nil && os.SameFile(older, last) {
			r.files[0].Close()
			r.files = r.files[1:]
		}
	}
	r.files = append([]*os.File{old}, r.files...)
	return len(r.files) > 1, err
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
				r.files = append(r.files, f)
			}
		}
		return nil
	}
}

// skipTo moves to the last n lines.
func (r *logReader) skipTo(n int) error {
	for i := len(r.files) - 1; i >= 0; i-- {
		found, err := seekLines(r.files[i], n)
		if err != nil {
			return err
		}
		if n -= found; n <= 0 {
			closeAll(r.files[:i]...)
			r.files = r.files[i:]
			return nil
		}
	}
	return nil
}

// seekLines moves f to the begin of its last n lines, or to its begin, and
// returns how many lines follow. It reads backwards.
func seekLines(f *os.File, n int) (found int, err error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 8<<10)
	for end := size; end > 0; {
		begin := max(end-int64(len(buf)), 0)
		part := buf[:end-begin]
		if _, err := f.ReadAt(part, begin); err != nil && err != io.EOF {
			return 0, err
		}
		for i := len(part); i > 0; {
			i = bytes.LastIndexByte(part[:i], '\n')
			if i < 0 {
				break
			}
			at := begin + int64(i) + 1
			if at == size {
				continue
			}
			if found++; found == n {
				_, err := f.Seek(at, io.SeekStart)
				return found, err
			}
		}
		end = begin
	}
	if size > 0 {
		found++
	}
	_, err = f.Seek(0, io.SeekStart)
	return found, err
}

// Close ends the stream.
func (r *logReader) Close() error {
	if r.queue != nil {
		r.release()
		r.queue.file.Close()
	}
	return closeAll(r.files...)
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

func closeAll(files ...*os.File) error {
	var err error
	for _, f := range files {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// TailLog returns the last n lines of dir's log; nil when there is none.
func TailLog(dir string, n int) []string {
	r, err := OpenLog(context.Background(), dir, LogOptions{Lines: n})
	if err != nil {
		return nil
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
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
	if _, err := seekLines(f, n); err != nil {
		return nil
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil
	}
	// A file that is shorter than before was rotated: all of it is new.
	if size := logEnd(dir); at < from && from <= size {
		if _, err := f.Seek(from, io.SeekStart); err != nil {
			return nil
		}
	}
	b, _ := io.ReadAll(f)
	if len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}
