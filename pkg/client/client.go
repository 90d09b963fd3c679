package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"tekton.host/pkg/server/wire"
)

// Client of one daemon.
type Client struct {
	socket string
	http   *http.Client
}

// New returns a client of the daemon that listens on socket. It does not connect yet.
func New(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", socket)
		if err != nil && ctx.Err() == nil {
			return nil, &UnreachableError{Socket: socket, Err: err}
		}
		return conn, err
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// UnreachableError says that nobody answers on the socket, or not to us.
type UnreachableError struct {
	Socket string
	Err    error
}

func (e *UnreachableError) Error() string {
	switch {
	case errors.Is(e.Err, fs.ErrNotExist):
		return fmt.Sprintf("reach the daemon: there is no socket %s", e.Socket)
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		return fmt.Sprintf("reach the daemon: nobody listens on %s", e.Socket)
	case errors.Is(e.Err, fs.ErrPermission):
		return fmt.Sprintf("reach the daemon: you may not use %s", e.Socket)
	}
	return fmt.Sprintf("reach the daemon on %s: %v", e.Socket, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// Next is what the user can do about it.
func (e *UnreachableError) Next() string {
	if !errors.Is(e.Err, fs.ErrPermission) {
		return "is tektond running? Start it, or name its socket with --socket or TEKTON_SOCKET"
	}
	if group := socketGroup(e.Socket); group != "" {
		return fmt.Sprintf("join group %s and log in again (sudo usermod -aG %s \"$USER\"), or use sudo", group, group)
	}
	return "use sudo"
}

// socketGroup is the group that may use the socket, if that is not root's.
func socketGroup(socket string) string {
	info, err := os.Stat(socket)
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Gid == 0 || info.Mode()&0o060 != 0o060 {
		return ""
	}
	g, err := user.LookupGroupId(strconv.Itoa(int(st.Gid)))
	if err != nil {
		return ""
	}
	return g.Name
}

// request is one question to the daemon.
type request struct {
	method string
	path   string
	query  url.Values
	body   any // sent as JSON; []byte as it is
	header http.Header
}

// do returns the answer if it is a success.
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	var body io.Reader
	switch b := r.body.(type) {
	case nil:
	case []byte:
		body = bytes.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	u := url.URL{Scheme: "http", Host: "tektond", RawQuery: r.query.Encode()}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, err
	}
	req.URL.Path, req.URL.RawPath = unescaped(r.path), r.path
	for k, v := range r.header {
		req.Header[k] = v
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*UnreachableError](err); ok {
			return nil, e
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("ask the daemon on %s: %w", c.socket, err)
	}
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, refusal(resp)
}

func unescaped(path string) string {
	p, err := url.PathUnescape(path)
	if err != nil {
		return path
	}
	return p
}

// refusal reads the error of an answer.
func refusal(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, wire.MaxRequest))
	if err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	e := &wire.Error{}
	if json.Unmarshal(text, e) != nil || e.Message == "" {
		return fmt.Errorf("the daemon answered %s: %s", resp.Status, bytes.TrimSpace(text))
	}
	return e
}

// ask decodes the answer into a T.
func ask[T any](ctx context.Context, c *Client, r request) (T, error) {
	var v T
	resp, err := c.do(ctx, r)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return v, fmt.Errorf("read the daemon's answer: %w", err)
	}
	return v, nil
}

// tell is ask without an interest in the answer.
func (c *Client) tell(ctx context.Context, r request) error {
	_, err := ask[json.RawMessage](ctx, c, r)
	return err
}
