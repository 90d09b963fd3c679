package launch

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/machine/handover"
	"tekton.host/pkg/machine/hostkey"
	"tekton.host/pkg/resource"
)

// maxSecret bounds one secret.
const maxSecret = 1 << 20

// bootInits are tried in order where a rootfs, or the host's userland, boots its own init.
var bootInits = []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/sbin/init", "/init"}

// Document is what the first process gets: the instance, and its secrets' values.
func Document(i resource.Instance) (handover.Document, error) {
	d := handover.Document{
		Hostname: i.Hostname, Addr: i.Addr, DNS: i.DNS,
		Command: i.Command, User: i.User, WorkDir: i.WorkDir, Environment: i.Environment,
	}
	switch {
	case i.System.StorePath != "":
		d.Boot = []string{i.System.StorePath + "/init"}
	default:
		d.Boot = bootInits
	}
	for _, v := range i.Volumes {
		if v.Target != "/" && !v.ReadOnly {
			d.Volumes = append(d.Volumes, v.Target)
		}
	}
	if l := i.Login; l != nil {
		key, err := hostKey(l)
		if err != nil {
			return d, fail(ExitSecret, "ssh host key: %w", err)
		}
		d.Login = &handover.Login{User: l.User, Home: l.Home, HostKey: key}
	}
	for _, s := range i.Secrets {
		value, err := ReadSecret(s.File)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: set it with `tekton secret set`", err)
		}
		if err != nil {
			return d, fail(ExitSecret, "secret %s: %w", s.Name, err)
		}
		if s.Path != "" {
			d.Files = append(d.Files, handover.File{Path: s.Path, Data: value})
		}
		if s.Env == "" {
			continue
		}
		env, err := SecretVariable(s, string(value))
		if err != nil {
			return d, fail(ExitSecret, "secret %s: %w", s.Name, err)
		}
		d.SecretEnvironment = append(d.SecretEnvironment, env)
	}
	return d, nil
}

func hostKey(l *resource.Login) ([]byte, error) {
	secret, err := ReadSecret(l.KeyFile)
	if err != nil {
		return nil, err
	}
	return hostkey.Derive(secret, l.HostKey).Private()
}

// ReadSecret reads a secret's file; a link in its place is refused.
func ReadSecret(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSecret {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxSecret)
	}
	return b, nil
}

// SecretVariable makes NAME=VALUE. The newline that editors put at a file's end
// is not part of a variable.
func SecretVariable(s resource.Secret, value string) (string, error) {
	value = strings.TrimSuffix(value, "\n")
	if strings.Contains(value, "\x00") {
		return "", errors.New("holds a NUL byte, which no environment variable can: use path instead of env")
	}
	if s.Format != "" {
		value = strings.ReplaceAll(s.Format, "%s", escapeURL(value))
	}
	return s.Env + "=" + value, nil
}

// escapeURL percent-encodes all but the unreserved characters, so that the
// value fits every part of a URL. net/url has no such mode.
func escapeURL(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
