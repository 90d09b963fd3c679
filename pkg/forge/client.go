package forge

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Service is the API that a forge speaks.
type Service string

// Services.
const (
	GitHub Service = "github"
	// Forgejo and Gitea.
	Forgejo Service = "forgejo"
)

// Options of an API.
type Options struct {
	// Service that answers. required
	Service Service
	// URL that people know the forge by; of GitHub, absent is https://github.com.
	URL string
	// Token of a user, asked for at each request, so that it can be replaced; or
	Token func() (string, error)
	// App of GitHub.
	App *App
	// Timeout of one request; 0: 30 seconds.
	Timeout time.Duration
	// Transport below; nil: that of http.
	Transport http.RoundTripper
}

// API is a Client over HTTP.
type API struct {
	service Service
	base    string // without a slash at the end
	http    *http.Client
	auth    authorizer

	mu        sync.Mutex
	self      string               // login of ours
	pauses    map[string]time.Time // until when an account is not to ask
	known     map[string]known     // what was answered, by URL
	knownSize int
}

var _ Client = (*API)(nil)

// New returns a client. It asks nothing yet.
func New(o Options) (*API, error) {
	base, err := apiURL(o.Service, o.URL)
	if err != nil {
		return nil, err
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	c := &API{
		service: o.Service, base: base,
		http:   &http.Client{Transport: o.Transport, Timeout: o.Timeout, CheckRedirect: sameHost},
		pauses: map[string]time.Time{}, known: map[string]known{},
	}
	switch {
	case (o.Token == nil) == (o.App == nil):
		return nil, errors.New("a forge needs either a token or an app")
	case o.Token != nil:
		c.auth = token(o.Token)
	case o.Service != GitHub:
		return nil, fmt.Errorf("%s has no apps: use a token", o.Service)
	default:
		c.auth = &installations{app: *o.App, api: c, byOwner: map[string]*installation{}}
	}
	return c, nil
}

// apiURL is where a forge's API is.
func apiURL(s Service, forge string) (string, error) {
	if forge == "" && s == GitHub {
		forge = "https://github.com"
	}
	u, err := url.Parse(forge)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%q is not the URL of a forge: https://HOST", forge)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return "", fmt.Errorf("%q: a token only travels over https", forge)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	host := strings.ToLower(u.Host)
	switch {
	case s == Forgejo:
		u.Path += "/api/v1"
	case s != GitHub:
		return "", fmt.Errorf("%q is no service that we know: github or forgejo", s)
	case host == "github.com" || strings.HasSuffix(host, ".ghe.com") && strings.Count(host, ".") == 2:
		u.Host = "api." + host
	case host != "api.github.com":
		u.Path += "/api/v3"
	}
	return u.String(), nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// sameHost lets a question be led elsewhere only where it was sent to, and only
// as the same question: a renamed repository is found, a token goes nowhere else.
func sameHost(req *http.Request, via []*http.Request) error {
	from := via[0]
	if len(via) > 3 || req.URL.Host != from.URL.Host || req.URL.Scheme != from.URL.Scheme || req.Method != from.Method {
		return &ledAway{to: req.URL.Redacted()}
	}
	return nil
}

// ledAway is an answer that leads where we do not go.
type ledAway struct{ to string }

func (e *ledAway) Error() string {
	return fmt.Sprintf("it is led to %.200q, which is not followed: is the repository called otherwise now?", e.to)
}
