package statuspage

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
)

const (
	// maxStreams of changes, and of logs, at a time.
	maxStreams    = 64
	maxLogStreams = 16
	// streamPause between two things that one stream tells: bursts are one.
	streamPause = time.Second
	// streamAlive is how often something is sent, so that who has gone is noticed.
	streamAlive = 15 * time.Second
	// sendTimeout of one thing. Who takes no more is let go, and may ask again.
	sendTimeout = 10 * time.Second
	// maxTold events that are announced at once; a screen reader would still be reading.
	maxTold = 3
)

// stream is an answer of server-sent events.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	within  time.Duration
}

// openStream begins one within the bounds of slots; release is called at its end.
func (s *Server) openStream(w http.ResponseWriter, slots chan struct{}) (st *stream, release func(), err error) {
	select {
	case slots <- struct{}{}:
	default:
		w.Header().Set("Retry-After", "10")
		return nil, nil, &failure{http.StatusServiceUnavailable, "As many look at this live as may at a time.", "Reload the page to see what is new."}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	st = &stream{w, http.NewResponseController(w), s.sendTimeout}
	return st, func() { <-slots }, st.send("", "")
}

// send one event; without a name it only says that we are there. data is one line.
func (st *stream) send(event, data string) error {
	st.control.SetWriteDeadline(time.Now().Add(st.within))
	text := ": alive\n\n"
	if event != "" {
		text = fmt.Sprintf("event: %s\ndata: %s\n\n", event, data)
	}
	if _, err := io.WriteString(st.w, text); err != nil {
		return err
	}
	return st.control.Flush()
}

// live tells that there is something new, and the latest events in words. What is
// shown is fetched as any page is; nothing queues up for who is slow.
func (s *Server) live(w http.ResponseWriter, r *http.Request) error {
	st, release, err := s.openStream(w, s.streams)
	if err != nil {
		return err
	}
	defer release()
	v, changed := s.mirror.View()
	last := lastEvent(v)
	for {
		select {
		case <-r.Context().Done():
			return nil
		case <-s.stop:
			return nil
		case <-time.After(streamAlive):
			if st.send("", "") != nil {
				return nil
			}
			continue
		case <-changed:
		}
		v, changed = s.mirror.View()
		if st.send("change", "{}") != nil || st.tell(v, last) != nil {
			return nil
		}
		last = max(last, lastEvent(v)) // those of a daemon that is back come anew
		select {
		case <-r.Context().Done():
			return nil
		case <-time.After(streamPause):
		}
	}
}

// tell the events after one.
func (st *stream) tell(v View, after int64) error {
	told := 0
	for i := len(v.Events) - 1; i >= 0 && v.Events[i].Seq > after && told < maxTold; i-- {
		told++
	}
	for _, e := range v.Events[len(v.Events)-told:] {
		text, err := json.Marshal(terminal.Escape(strings.TrimSuffix(fmt.Sprintf("%s: %s. %s", e.Object, e.Reason, e.Message), ". ")))
		if err != nil {
			return err
		}
		if err := st.send("told", string(text)); err != nil {
			return err
		}
	}
	return nil
}

func lastEvent(v View) int64 {
	if len(v.Events) == 0 {
		return 0
	}
	return v.Events[len(v.Events)-1].Seq
}

// maxLine of a log; a longer one goes on in the next.
const maxLine = 64 << 10

// logsStream sends the lines of a log as they come.
func (s *Server) logsStream(w http.ResponseWriter, r *http.Request) error {
	_, item, err := s.item(r)
	if err != nil {
		return err
	}
	if !s.mayReadLogs(r) {
		return errNoLogs
	}
	o := logOptions(r)
	o.Follow = true
	st, release, err := s.openStream(w, s.logStreams)
	if err != nil {
		return err
	}
	defer release()
	log, err := s.operator.Logs(r.Context(), item.Ref(), o)
	if err != nil {
		st.send("ended", "{}")
		return nil
	}
	defer log.Close()
	lines := make(chan []string)
	go readLines(log, lines, r.Context().Done())
	alive := time.NewTicker(streamAlive)
	defer alive.Stop()
	for {
		select {
		case <-r.Context().Done():
			return nil
		case <-s.stop:
			return nil
		case <-alive.C:
			// Who signed out, or whose token was replaced, sees no more.
			if st.send("", "") != nil || !s.mayReadLogs(r) {
				return nil
			}
		case some, ok := <-lines:
			if !ok {
				st.send("ended", "{}")
				return nil
			}
			text, err := json.Marshal(some)
			if err != nil || st.send("lines", string(text)) != nil {
				return nil
			}
		}
	}
}

// readLines sends what is there at a time, escaped, until the end.
func readLines(log io.Reader, lines chan<- []string, gone <-chan struct{}) {
	defer close(lines)
	in := bufio.NewReaderSize(log, maxLine)
	var some []string
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			some = append(some, terminal.EscapeLines(strings.TrimRight(string(line), "\r\n")))
		}
		ended := err != nil && err != bufio.ErrBufferFull
		if len(some) > 0 && (ended || in.Buffered() == 0 || len(some) >= 100) {
			select {
			case lines <- some:
				some = nil
			case <-gone:
				return
			}
		}
		if ended {
			return
		}
	}
}

// shownLines of a log, unless the request says how many.
const shownLines, maxLines = 200, 5000

// logOptions of a request: which log, and how much of it.
func logOptions(r *http.Request) v1alpha1.LogOptions {
	q := r.URL.Query()
	o := v1alpha1.LogOptions{Tail: shownLines, Previous: q.Get("of") == "previous", Build: q.Get("of") == "build", Setup: q.Get("of") == "setup"}
	if n, err := strconv.Atoi(q.Get("tail")); err == nil && n >= 0 {
		o.Tail = min(n, maxLines)
	}
	return o
}
