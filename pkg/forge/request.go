package forge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// maxAnswer holds pageSize of the longest pull requests and comments that forges take.
	maxAnswer = 16 << 20
	pageSize  = 30
	maxPages  = 1000
	// maxKnown bytes of answers are remembered, maxKnownAnswer of one.
	maxKnown       = 16 << 20
	maxKnownAnswer = 256 << 10
)

// call is one question.
type call struct {
	repo   Repository // whose account asks
	method string
	path   string
	query  url.Values
	body   any
	app    bool // asked as the app itself
}

// known is an answer that the forge need not send again while its tag is good.
type known struct {
	tag  string
	text []byte // what we read of it
	next int
}

// ask decodes the answer into a T and returns the number of the next page, 0 if
// there is none. T has the fields that are read, and only those are remembered.
func ask[T any](ctx context.Context, c *API, q call) (T, int, error) {
	var v T
	key := c.auth.account(q.repo) + " " + q.path + "?" + q.query.Encode()
	var before known
	if q.method == http.MethodGet {
		before = c.remembered(key)
	}
	resp, err := c.send(ctx, q, before.tag)
	if err != nil {
		return v, 0, fmt.Errorf("%s %s: %w", q.method, q.path, err)
	}
	if resp.status == http.StatusNotModified {
		return v, before.next, json.Unmarshal(before.text, &v)
	}
	if err := json.Unmarshal(resp.text, &v); err != nil {
		return v, 0, fmt.Errorf("%s %s: the answer is not what was expected: %w", q.method, q.path, err)
	}
	next := nextPage(resp.header.Get("Link"))
	if tag := resp.header.Get("ETag"); tag != "" && q.method == http.MethodGet && !mayGrow(v, next) {
		text, err := json.Marshal(v)
		if err != nil {
			return v, 0, err
		}
		c.remember(key, known{tag: tag, text: text, next: next})
	}
	return v, next, nil
}

// listed is a page of a list.
type listed[T any] []T

func (l listed[T]) full() bool { return len(l) >= pageSize }

// mayGrow reports whether an answer is the last page of a list, and full. Its tag is
// of what it holds and not of its Link: it stays when another page begins.
func mayGrow(v any, next int) bool {
	l, ok := v.(interface{ full() bool })
	return ok && l.full() && next == 0
}

// all asks for page after page.
func all[T any](ctx context.Context, c *API, q call) ([]T, error) {
	if q.query == nil {
		q.query = url.Values{}
	}
	size := "per_page"
	if c.service == Forgejo {
		size = "limit"
	}
	q.query.Set(size, strconv.Itoa(pageSize))
	var list []T
	for page := 1; page != 0; {
		if page > maxPages {
			return nil, fmt.Errorf("%s %s: more than %d pages", q.method, q.path, maxPages)
		}
		q.query.Set("page", strconv.Itoa(page))
		some, next, err := ask[listed[T]](ctx, c, q)
		if err != nil {
			return nil, err
		}
		if next != 0 && next <= page {
			return nil, fmt.Errorf("%s %s: after page %d comes page %d", q.method, q.path, page, next)
		}
		list, page = append(list, some...), next
	}
	return list, nil
}

var nextLink = regexp.MustCompile(`<([^>]*)>\s*;[^,]*\brel="?next"?`)

// nextPage is the number of the next page by a Link header. The rest of the link
// is not used: a forge behind a proxy may call itself otherwise.
func nextPage(link string) int {
	m := nextLink.FindStringSubmatch(link)
	if m == nil {
		return 0
	}
	u, err := url.Parse(m[1])
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(u.Query().Get("page"))
	if err != nil {
		return 0
	}
	return n
}

// response was read whole.
type response struct {
	status int
	header http.Header
	text   []byte
}

// send asks, with other credentials once more where those that were kept are
// refused. A response is a success.
func (c *API) send(ctx context.Context, q call, tag string) (response, error) {
	for again := false; ; again = true {
		if err := c.paused(q.repo); err != nil {
			return response{}, err
		}
		credential, err := c.credential(ctx, q)
		if err != nil {
			return response{}, err
		}
		resp, err := c.exchange(ctx, q, credential, tag)
		if err != nil {
			return response{}, err
		}
		if resp.status/100 == 2 || resp.status == http.StatusNotModified && tag != "" {
			return resp, nil
		}
		if resp.status == http.StatusUnauthorized && !q.app && !again && c.auth.forget(q.repo) {
			continue
		}
		return response{}, c.refused(q, resp, credential)
	}
}

func (c *API) credential(ctx context.Context, q call) (string, error) {
	if q.app {
		return c.auth.(*installations).app.jwt(time.Now())
	}
	return c.auth.credential(ctx, q.repo)
}

// exchange is one request and its answer, whatever that is.
func (c *API) exchange(ctx context.Context, q call, credential, tag string) (response, error) {
	var body io.Reader
	if q.body != nil {
		text, err := json.Marshal(q.body)
		if err != nil {
			return response{}, err
		}
		body = bytes.NewReader(text)
	}
	u := c.base + q.path
	if len(q.query) > 0 {
		u += "?" + q.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, q.method, u, body)
	if err != nil {
		return response{}, err
	}
	req.Header.Set("Authorization", "Bearer "+credential)
	req.Header.Set("User-Agent", "tekton")
	req.Header.Set("Accept", "application/json")
	if c.service == GitHub {
		req.Header.Set("Accept", "application/vnd.github+json")
		req.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if tag != "" {
		req.Header.Set("If-None-Match", tag)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return response{}, unreached(ctx, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return response{}, unreached(ctx, err)
	}
	if len(text) > maxAnswer {
		return response{}, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	return response{resp.StatusCode, resp.Header, text}, nil
}

// unreached is a forge that did not answer: worth another try, unless it is we
// who do not want to know any more.
func unreached(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // the URL is told already
	}
	if led, ok := errors.AsType[*ledAway](err); ok {
		return led
	}
	return &RetryError{After: tryAgain, Err: fmt.Errorf("the forge does not answer: %w", err)}
}

func (c *API) remembered(key string) known {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[key]
}

func (c *API) remember(key string, k known) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.knownSize -= len(c.known[key].text)
	delete(c.known, key)
	if len(k.text) > maxKnownAnswer {
		return
	}
	if c.knownSize += len(k.text); c.knownSize > maxKnown {
		clear(c.known) // asked for again, at the cost of a few requests
		c.knownSize = len(k.text)
	}
	c.known[key] = k
}

// path of an API: parts are escaped.
func path(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("/")
		b.WriteString(url.PathEscape(p))
	}
	return b.String()
}
