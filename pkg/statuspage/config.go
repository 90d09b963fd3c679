package statuspage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"tekton.host/pkg/client"
	"tekton.host/pkg/internal/companion"
	"tekton.host/pkg/spec"
)

// Config is the configuration of tekton-status.
type Config struct {
	// Listen at a loopback address and port, or at unix:PATH; for others a reverse proxy is in front.
	Listen string `json:"listen,omitempty"`
	// Hosts are the names that the page has beside localhost: what a reverse proxy sends. A request for another is refused.
	Hosts []string `json:"hosts,omitempty"`
	// Socket of the daemon: that which only shows, Host.spec.readSocketGroup.
	Socket string `json:"socket,omitempty"`
	// OperateSocket of the daemon, Host.spec.operateSocketGroup; absent: there are no logs and no actions.
	OperateSocket string `json:"operateSocket,omitempty"`
	// TokenFile holds what to sign in with; absent: there are no actions.
	TokenFile string `json:"tokenFile,omitempty"`
	// OpenLogs shows what programs print to everybody who reaches the page, without signing in.
	OpenLogs bool `json:"openLogs,omitempty"`
}

const (
	// minToken is the length of a token that cannot be guessed.
	minToken = 24
	// checkTimeout of the daemon's answer to the check of a configuration.
	checkTimeout = 5 * time.Second
)

var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$`)

// LoadConfig reads and checks a configuration. Everything that is wrong is told at
// once, with its place. A relative name of a file is one of $CREDENTIALS_DIRECTORY,
// else of the directory of the configuration.
func LoadConfig(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	c := &Config{}
	var errs []error
	for _, p := range spec.DecodeFile(path, data, c, func() field.ErrorList {
		c.Listen = cmp.Or(c.Listen, "127.0.0.1:9190")
		c.Socket = cmp.Or(c.Socket, "/run/tekton/read.sock")
		return c.validate()
	}) {
		errs = append(errs, p)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if c.TokenFile != "" && !filepath.IsAbs(c.TokenFile) {
		c.TokenFile = filepath.Join(cmp.Or(os.Getenv("CREDENTIALS_DIRECTORY"), filepath.Dir(path)), c.TokenFile)
	}
	return c, nil
}

func (c *Config) validate() field.ErrorList {
	var errs field.ErrorList
	if _, _, err := companion.Address(c.Listen); err != nil {
		errs = append(errs, field.Invalid(field.NewPath("listen"), c.Listen, err.Error()))
	}
	for i, name := range c.Hosts {
		if !hostName.MatchString(name) {
			errs = append(errs, field.Invalid(field.NewPath("hosts").Index(i), name, "must be a DNS name in lower case, with a port where that is not the usual one"))
		}
	}
	if !filepath.IsAbs(c.Socket) {
		errs = append(errs, field.Invalid(field.NewPath("socket"), c.Socket, "must be an absolute path"))
	}
	if c.OperateSocket != "" && !filepath.IsAbs(c.OperateSocket) {
		errs = append(errs, field.Invalid(field.NewPath("operateSocket"), c.OperateSocket, "must be an absolute path"))
	}
	switch uses := c.TokenFile != "" || c.OpenLogs; {
	case uses && c.OperateSocket == "":
		errs = append(errs, field.Required(field.NewPath("operateSocket"), "logs and actions need it"))
	case !uses && c.OperateSocket != "":
		errs = append(errs, field.Required(field.NewPath("tokenFile"), "write it, or openLogs: true; without them operateSocket is of no use"))
	}
	return errs
}

// token is what to sign in with, as it is now: a new one needs no restart.
func (c *Config) token() ([]byte, error) {
	text, err := companion.Secret(c.TokenFile)
	if err == nil && len(text) < minToken {
		err = fmt.Errorf("the token in %s has less than %d characters; make one: openssl rand -hex 32", c.TokenFile, minToken)
	}
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(c.TokenFile); err != nil || info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("everybody may read the token in %s (%w); chmod 0400", c.TokenFile, cmp.Or(err, error(fs.ErrPermission)))
	}
	return text, nil
}

// Check reports what of the configuration cannot be used now: the token and the sockets.
func (c *Config) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var errs []error
	if c.TokenFile != "" {
		_, err := c.token()
		errs = append(errs, err)
	}
	for _, socket := range []string{c.Socket, c.OperateSocket} {
		if socket != "" {
			if _, err := client.New(socket).Version(ctx); err != nil {
				errs = append(errs, fmt.Errorf("%w. %s", err, advice(err)))
			}
		}
	}
	return errors.Join(errs...)
}

// names that requests may be for.
func (c *Config) names() map[string]bool {
	names := map[string]bool{}
	for _, name := range c.Hosts {
		names[name] = true
	}
	if _, port, err := net.SplitHostPort(c.Listen); err == nil {
		for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
			names[net.JoinHostPort(host, port)] = true
		}
	}
	return names
}
