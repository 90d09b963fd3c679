package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// web has no connections that outlive a request.
var web = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}

// about is what the guest tells of itself.
type about struct {
	Hostname, Generation, Path string
	PID                        int
	Env                        []string
}

func (a about) env(name string) string {
	for _, kv := range a.Env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v
		}
	}
	return ""
}

// fetch gets a page; host is that of the request, should it differ.
func fetch(rawURL, host string) (int, string, error) {
	return request(http.MethodGet, rawURL, host, "")
}

func request(method, rawURL, host, text string) (int, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), web.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, rawURL, strings.NewReader(text))
	if err != nil {
		return 0, "", err
	}
	req.Host = host
	resp, err := web.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// overSocket asks a server on a unix socket; Caddy wants to be called tekton there.
func overSocket(socket, path string) (string, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get("http://tekton" + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// through asks the ingress.
func (k *tekton) through(host, path string) (int, string, error) {
	return fetch(fmt.Sprintf("http://127.0.0.1:%d%s", k.httpPort(), path), host)
}

// served asks the ingress who answers.
func (k *tekton) served(host, path string) (about, error) {
	code, body, err := k.through(host, path)
	if err != nil {
		return about{}, err
	}
	return readAbout(code, body)
}

func readAbout(code int, body string) (a about, err error) {
	if code != http.StatusOK {
		return a, fmt.Errorf("status %d: %s", code, body)
	}
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		return a, fmt.Errorf("%w: %q", err, body)
	}
	return a, nil
}

// ask calls the guest of an object at its address.
func (k *tekton) ask(name, path string, args ...string) (string, error) {
	i, err := k.item(name)
	if err != nil {
		return "", err
	}
	if i.Status.Address == "" {
		return "", fmt.Errorf("%s has no address", name)
	}
	q := url.Values{}
	for n := 0; n+1 < len(args); n += 2 {
		q.Set(args[n], args[n+1])
	}
	code, body, err := fetch("http://"+i.Status.Address+":8080"+path+"?"+q.Encode(), "")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("%s of %s: status %d: %s", path, name, code, body)
	}
	return strings.TrimSpace(body), err
}

func (k *tekton) mustAsk(name, path string, args ...string) string {
	k.t.Helper()
	out, err := k.ask(name, path, args...)
	k.check(err)
	return out
}

// aboutOf is what the guest of an object tells of itself.
func (k *tekton) aboutOf(name string) about {
	k.t.Helper()
	a, err := readAbout(http.StatusOK, k.mustAsk(name, "/"))
	k.check(err)
	return a
}
