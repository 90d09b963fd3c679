package webhook

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"tekton.host/pkg/forge"
)

const (
	// MaxBody is the most that GitHub sends.
	MaxBody = 25 << 20
	// maxReading is how much of bodies is in memory at a time.
	maxReading = 2 * MaxBody
	// answerWithin: GitHub waits ten seconds for an answer.
	answerWithin = 8 * time.Second
	// bodyWithin leaves time to answer.
	bodyWithin = answerWithin - time.Second
	// Memory for a body is taken in steps that grow with it.
	firstStep, largestStep = 4 << 10, 64 << 10
	// giveWay is how long a body that holds some memory waits for more.
	giveWay = time.Second
)

// budget bounds the memory that bodies take. It is taken as they come and not as
// they are announced: who announces much and sends nothing stops nobody.
type budget struct {
	memory *semaphore.Weighted
	within time.Duration
	giving sync.Mutex // one body gives way at a time
}

func newBudget() *budget {
	return &budget{memory: semaphore.NewWeighted(maxReading), within: bodyWithin}
}

var errBusy = errors.New("too many deliveries at once")

// read a body to its end. What it took is to be released whatever it returns.
func (b *budget) read(ctx context.Context, r io.Reader) (body []byte, release func(), err error) {
	held := 0
	release = func() { b.memory.Release(int64(held)) }
	for {
		if len(body) == held {
			step := min(max(held, firstStep), largestStep)
			if err := b.take(ctx, step, &held); err != nil {
				return nil, release, err
			}
			body = slices.Grow(body, step)
		}
		n, err := r.Read(body[len(body):held])
		body = body[:len(body)+n]
		if err == io.EOF {
			return body, release, nil
		}
		if err != nil {
			return nil, release, err
		}
	}
}

// take waits for memory. Of bodies that wait for each other's one soon gives way, and
// what it held is free before another one does: all of them would else.
func (b *budget) take(ctx context.Context, n int, held *int) error {
	if *held > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, giveWay)
		defer cancel()
	}
	if b.memory.Acquire(ctx, int64(n)) != nil {
		b.giving.Lock()
		defer b.giving.Unlock()
		if !b.memory.TryAcquire(int64(n)) {
			b.memory.Release(int64(*held))
			*held = 0
			return errBusy
		}
	}
	*held += n
	return nil
}

// refusal is how a delivery is not accepted.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

// receive answers a delivery: 202 when what it says will be looked at, whatever
// happens; 200 when there is nothing to look at.
func (s *Server) receive(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
	defer cancel()
	status, text := s.accept(ctx, w, r)
	s.metrics.deliveries.WithLabelValues(http.StatusText(status)).Inc()
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "30")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	io.WriteString(w, text+"\n")
}

func (s *Server) accept(ctx context.Context, w http.ResponseWriter, r *http.Request) (status int, text string) {
	f, ok := s.forges[r.PathValue("forge")]
	if !ok {
		return http.StatusNotFound, "no forge of this name is configured"
	}
	e, err := s.read(ctx, w, r, f)
	if refused, ok := errors.AsType[*refusal](err); ok {
		return refused.status, refused.text
	}
	if err != nil {
		s.log.Error(err, "a delivery could not be checked", "forge", f.Name)
		return http.StatusServiceUnavailable, "not now; the host's log says why"
	}
	k := Key{Forge: f.Name, Repository: e.Repository, Number: e.PullRequest, Branch: e.Branch}.folded()
	switch {
	case e.Kind == forge.EventPing:
		return http.StatusOK, "pong"
	case e.Kind == "" || k.Number == 0 && k.Branch == "":
		return http.StatusOK, "nothing to do"
	}
	switch err := s.journal.Add(ctx, k, f.Name+"/"+e.ID); {
	case err == nil:
		s.looks.add(k)
		return http.StatusAccepted, "it will be looked at"
	case errors.Is(err, ErrSeen):
		return http.StatusOK, "this delivery was accepted before"
	default:
		if !errors.Is(err, ErrFull) {
			s.looks.add(k) // it cannot be promised, and happens all the same
		}
		s.log.Error(err, "a delivery could not be kept", "forge", f.Name, "what", k.String())
		return http.StatusServiceUnavailable, "not now; the host's log says why"
	}
}

// read takes in a delivery: nothing of it is looked at before its signature.
func (s *Server) read(ctx context.Context, w http.ResponseWriter, r *http.Request, f Forge) (forge.Event, error) {
	var none forge.Event
	if r.ContentLength > MaxBody {
		return none, &refusal{http.StatusRequestEntityTooLarge, "a delivery has at most 25 MiB"}
	}
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.reading.within)) // the next request has its own
	body, release, err := s.reading.read(ctx, http.MaxBytesReader(w, r.Body, MaxBody))
	defer release()
	if err != nil {
		return none, unread(err)
	}
	secrets, err := f.Secrets()
	if err != nil {
		return none, err
	}
	if forge.Verify(r.Header, body, secrets...) != nil {
		return none, &refusal{http.StatusUnauthorized, "the signature is not made with the secret of this webhook"}
	}
	e, err := forge.Parse(r.Header, body)
	if err != nil {
		return none, &refusal{http.StatusBadRequest, err.Error()}
	}
	return e, nil
}

// unread is the answer to a body that was not read to its end.
func unread(err error) *refusal {
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return &refusal{http.StatusRequestEntityTooLarge, "a delivery has at most 25 MiB"}
	}
	switch {
	case errors.Is(err, errBusy):
		return &refusal{http.StatusServiceUnavailable, err.Error()}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &refusal{http.StatusRequestTimeout, "the delivery did not come to its end in time"}
	}
	return &refusal{http.StatusBadRequest, "the delivery ended before its end"}
}

// healthz answers 200 while deliveries are kept and the daemon is heard.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !s.watcher.View().Known {
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "the daemon says nothing\n")
		return
	}
	io.WriteString(w, "ok\n")
}
