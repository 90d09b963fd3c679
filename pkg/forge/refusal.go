package forge

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// tryAgain is when to ask a forge again that is in trouble and does not say.
	tryAgain = 10 * time.Second
	// limited is how long to wait, as GitHub asks, where a limit says nothing itself.
	limited = time.Minute
	// maxPause bounds what a forge asks for: its limits start anew each hour.
	maxPause = time.Hour + time.Minute
)

// refused is the error of an answer that is no success. A limit pauses the account.
func (c *API) refused(q call, r response, credential string) error {
	said := message(r.text, credential)
	err := fmt.Errorf("%d %s%s", r.status, http.StatusText(r.status), said)
	if after, ok := limit(r, said, time.Now()); ok {
		c.pause(q.repo, after)
		return &RetryError{After: after, Limit: true, Err: err}
	}
	switch {
	case r.status >= 500:
		after, ok := retryAfter(r.header)
		if !ok {
			after = tryAgain
		}
		return &RetryError{After: after, Err: err}
	case r.status == http.StatusNotFound || r.status == http.StatusGone:
		return fmt.Errorf("%w (%w)", err, ErrNotFound)
	case r.status == http.StatusUnauthorized:
		return fmt.Errorf("%w: is the token or the app's key still good?%s", err, clocks(r.header, time.Now()))
	case r.status == http.StatusForbidden:
		return fmt.Errorf("%w (%w: what may the token or the app do?%s)", err, ErrRefused, accepted(r.header))
	case r.status == http.StatusBadRequest || r.status == http.StatusConflict || r.status == http.StatusUnprocessableEntity:
		return fmt.Errorf("%w (%w)", err, ErrRefused)
	}
	return err
}

// clocks tells of a clock that is wrong: an app's token is good for minutes only.
func clocks(h http.Header, now time.Time) string {
	theirs, err := http.ParseTime(h.Get("Date"))
	if off := now.Sub(theirs).Abs(); err == nil && off > time.Minute {
		return fmt.Sprintf(" This host's clock and the forge's are %s apart: is time synchronized?", off.Round(time.Minute))
	}
	return ""
}

// accepted is what GitHub says that would have been enough, "issues=write".
func accepted(h http.Header) string {
	if what := h.Get("X-Accepted-GitHub-Permissions"); what != "" {
		return fmt.Sprintf(" It needs %.200q", what)
	}
	return ""
}

// message is what the forge said, for people: in one line, and without the
// credential, whatever the forge makes of it.
func message(text []byte, credential string) string {
	var said struct{ Message string }
	if json.Unmarshal(text, &said) != nil || said.Message == "" {
		return ""
	}
	if credential != "" {
		said.Message = strings.ReplaceAll(said.Message, credential, "…")
	}
	return fmt.Sprintf(": %.300q", said.Message)
}

// limit is how long a rate limit lasts, if the answer is one. GitHub's primary
// limit says so in headers, the secondary one often only in its words.
func limit(r response, said string, now time.Time) (time.Duration, bool) {
	if r.status != http.StatusForbidden && r.status != http.StatusTooManyRequests {
		return 0, false
	}
	if after, ok := retryAfter(r.header); ok {
		return after, true
	}
	if r.header.Get("X-RateLimit-Remaining") == "0" {
		if reset, err := strconv.ParseInt(r.header.Get("X-RateLimit-Reset"), 10, 64); err == nil {
			return between(time.Unix(reset, 0).Sub(now) + time.Second), true // our clock and theirs
		}
		return limited, true
	}
	if r.status == http.StatusTooManyRequests || strings.Contains(strings.ToLower(said), "rate limit") {
		return limited, true
	}
	return 0, false
}

// retryAfter is what the header of that name says, in seconds or as a date.
func retryAfter(h http.Header) (time.Duration, bool) {
	v := h.Get("Retry-After")
	if n, err := strconv.ParseInt(v, 10, 32); err == nil {
		return between(time.Duration(n) * time.Second), true
	}
	if t, err := http.ParseTime(v); err == nil {
		return between(time.Until(t)), true
	}
	return 0, false
}

func between(d time.Duration) time.Duration { return min(max(d, time.Second), maxPause) }

// pause keeps an account from asking: who goes on asking is locked out.
func (c *API) pause(r Repository, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pauses[c.auth.account(r)] = time.Now().Add(d)
}

func (c *API) paused(r Repository) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if left := time.Until(c.pauses[c.auth.account(r)]); left > 0 {
		return &RetryError{After: left, Limit: true, Err: errors.New("not asked: the forge's rate limit is used up")}
	}
	return nil
}
