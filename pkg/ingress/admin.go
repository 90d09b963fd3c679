package ingress

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"
)

// longestPause between two tries of a request.
const longestPause = 160 * time.Millisecond

// refusal is a configuration that Caddy read and refused, in its words.
type refusal struct{ message string }

func (e *refusal) Error() string { return "Caddy refuses it: " + e.message }

// admin speaks Caddy's admin API.
type admin struct {
	client *http.Client
	socket string // or HOST:PORT
	host   string // that requests name: Caddy refuses those that it does not expect
}

func newAdmin(network, address, host string) *admin {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}
	// No connection is kept: each load replaces the admin server and resets them.
	return &admin{socket: address, host: host, client: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// config returns the running configuration.
func (a *admin) config(ctx context.Context) ([]byte, error) {
	return a.do(ctx, http.MethodGet, "/config/", "", nil)
}

// load makes Caddy run the Caddyfile text; the old configuration stays on any error.
// It sends JSON, because Caddy answers 200 to a refused Caddyfile about which
// it has warnings too.
func (a *admin) load(ctx context.Context, text string) error {
	config, err := a.adapt(ctx, text)
	if err != nil {
		return err
	}
	_, err = a.do(ctx, http.MethodPost, "/load", "application/json", config)
	return err
}

// accepts reports whether Caddy can read the Caddyfile text, changing nothing.
func (a *admin) accepts(ctx context.Context, text string) (bool, error) {
	_, err := a.adapt(ctx, text)
	if isRefusal(err) {
		return false, nil
	}
	return err == nil, err
}

// adapt returns the Caddyfile text as JSON, changing nothing.
func (a *admin) adapt(ctx context.Context, text string) (json.RawMessage, error) {
	b, err := a.do(ctx, http.MethodPost, "/adapt", "text/caddyfile", []byte(text))
	if err != nil {
		return nil, err
	}
	var out struct{ Result json.RawMessage }
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("read Caddy's answer to /adapt: %w", err)
	}
	return out.Result, nil
}

// do asks again for a moment when the connection fails: while Caddy replaces
// its admin server after a load, the socket may be gone or a connection reset.
// All requests of ours may be repeated.
func (a *admin) do(ctx context.Context, method, path, contentType string, body []byte) ([]byte, error) {
	for pause := 5 * time.Millisecond; ; pause *= 2 {
		b, err := a.once(ctx, method, path, contentType, body)
		if pause > longestPause || !unreachable(err) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
			return b, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(pause):
		}
	}
}

func (a *admin) once(ctx context.Context, method, path, contentType string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://caddy"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Host = a.host
	req.Header.Set("Content-Type", contentType)
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask Caddy on %s: %w", a.socket, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("ask Caddy on %s: %w", a.socket, err)
	}
	if resp.StatusCode == http.StatusOK {
		return b, nil
	}
	var out struct{ Error string }
	if json.Unmarshal(b, &out) != nil || out.Error == "" {
		out.Error = string(b)
	}
	if method == http.MethodPost && resp.StatusCode == http.StatusBadRequest {
		return nil, &refusal{out.Error}
	}
	return nil, fmt.Errorf("ask Caddy on %s for %s: %s: %s", a.socket, path, resp.Status, out.Error)
}

func isRefusal(err error) bool {
	_, ok := errors.AsType[*refusal](err)
	return ok
}

// unreachable reports whether nothing listens on the socket: a Caddy that runs
// all the same can only be helped by a new start.
func unreachable(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)
}
