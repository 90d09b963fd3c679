// Package companion is what the unprivileged processes beside the daemon share:
// where they listen, and secrets in files.
package companion

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// maxSecret bounds what is read of a file with a secret.
const maxSecret = 64 << 10

// Address of what a configuration says to listen at, a loopback address and port or
// unix:PATH, for net.Listen.
func Address(listen string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(listen, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return "", "", errors.New("must be unix: and an absolute path")
		}
		return "unix", path, nil
	}
	host, _, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return "", "", errors.New("must be a loopback address and a port, or unix:PATH: others come by way of a reverse proxy, which has TLS")
	}
	return "tcp", listen, nil
}

// Listen at what Address takes. The caller knows that no other of its kind does: a
// socket that is there is replaced.
func Listen(at string) (net.Listener, error) {
	network, address, err := Address(at)
	if err != nil {
		return nil, err
	}
	if network == "unix" {
		if info, err := os.Lstat(address); err == nil && info.Mode().Type() == fs.ModeSocket {
			os.Remove(address)
		}
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	if network == "unix" {
		// The reverse proxy is of the directory's group, or nobody but us comes in.
		if err := os.Chmod(address, 0o660); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// Secret reads a file without the end of its last line.
func Secret(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxSecret) {
		err = errors.New("it is no file, or too large to be a secret")
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(file)
	}
	if text = bytes.TrimSpace(text); err == nil && len(text) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("read the secret in %s: %w", file, err)
	}
	return text, nil
}
