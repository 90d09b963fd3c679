package supervise

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"tekton.host/pkg/supervise/contract"
)

// timesMax bounds what is read of a file of times.
const timesMax = 64 << 20

// stamps are those of a part's file; known is false where a supervisor wrote
// none that belong to it.
func (r *logReader) stamps(p *part) (stamps []contract.Stamp, known bool, err error) {
	header, err := contract.TimesHeader(p.File)
	if err != nil {
		return nil, false, err
	}
	for _, name := range []string{TimesFile, TimesFile + ".1"} {
		f, err := open(r.path(name))
		if err != nil {
			return nil, false, err
		}
		if f == nil {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(f, timesMax))
		closeAll(f)
		if err != nil {
			return nil, false, err
		}
		if stamps, known = contract.ParseTimes(text, header); known {
			return stamps, true, nil
		}
	}
	return nil, false, nil
}

// skipBefore moves to what was written since then, to the second. Of a file
// without times, all or nothing is.
func (r *logReader) skipBefore(since time.Time) error {
	for i, p := range r.parts {
		stamps, known, err := r.stamps(p)
		if err != nil {
			return err
		}
		at := slices.IndexFunc(stamps, func(s contract.Stamp) bool { return s.Second >= since.Unix() })
		if at >= 0 {
			p.at = stamps[at].Offset
			return r.dropBefore(i)
		}
		info, err := p.Stat()
		if err != nil {
			return err
		}
		if !known && !info.ModTime().Before(since) {
			return r.dropBefore(i)
		}
		p.at = info.Size()
	}
	return nil
}

// start is where a start's output begins, and when the one before it was last
// heard of.
type start struct {
	part   int
	offset int64
	before time.Time
}

// starts are those that are kept, and before them what may be the rest of one
// whose beginning was rotated away.
func (r *logReader) starts() ([]start, error) {
	starts := []start{{}}
	var last time.Time
	for i, p := range r.parts {
		stamps, _, err := r.stamps(p)
		if err != nil {
			return nil, err
		}
		for _, s := range stamps {
			if s.Start {
				starts = append(starts, start{i, s.Offset, last})
			}
			last = time.Unix(s.Second, 0)
		}
	}
	return slices.CompactFunc(starts, func(a, b start) bool { return a.part == b.part && a.offset == b.offset }), nil
}

// cutToPrevious leaves what was written between the last two starts.
func (r *logReader) cutToPrevious() error {
	starts, err := r.starts()
	if err != nil {
		return err
	}
	n := len(starts)
	if n < 2 {
		return ErrNoPrevious
	}
	from, to := starts[n-2], starts[n-1]
	r.parts[from.part].at = from.offset
	r.parts[to.part].end = to.offset
	after := r.parts[to.part+1:]
	r.parts = r.parts[:to.part+1]
	if err := closeParts(after); err != nil {
		return err
	}
	return r.dropBefore(from.part)
}

// PreviousLogTime is when the start before the last one was last heard of in
// dir's log; zero: not known, or there was none.
func PreviousLogTime(dir string) (time.Time, error) {
	r := &logReader{dir: dir}
	defer r.Close()
	if err := r.openBoth(); err != nil {
		return time.Time{}, err
	}
	starts, err := r.starts()
	if err != nil {
		return time.Time{}, err
	}
	return starts[len(starts)-1].before, nil
}

// LogTime is when something was last written to dir's log; zero: never.
func LogTime(dir string) (last time.Time) {
	for _, name := range []string{LogFile, LogFile + ".1"} {
		if info, err := os.Lstat(filepath.Join(dir, name)); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last
}
