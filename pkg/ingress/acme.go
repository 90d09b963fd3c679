package ingress

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

const (
	// watchMissing is how often it is looked for a certificate that is to come.
	watchMissing = time.Second
	// logAgain is how long what Caddy has logged of the authority is remembered.
	logAgain = 5 * time.Second
	// logLines of Caddy's log are searched, and messageMax bytes of a line shown.
	logLines, messageMax = 200, 400
)

// issued remembers the certificates that Caddy got, and why it did not.
type issued struct {
	certificates map[string]issue // by file
	refusals     map[string]string
	refusalsAt   time.Time
}

type issue struct {
	stamp    stamp
	notAfter time.Time
}

// served says how the certificate of a route's host stands.
func (d *Driver) served(g *generation, v resource.Route, in *authorities) resource.Served {
	switch {
	case v.TLS == resource.TLSFiles:
		c, err := g.certificate(v.Host)
		if err != nil {
			return resource.Served{}
		}
		return resource.Served{NotAfter: c.NotAfter}
	case v.TLS != resource.TLSACME || d.opts.System != nil: // where the host's own Caddy keeps its certificates is not known
		return resource.Served{}
	}
	if notAfter := d.issued.look(in, v.Host); !notAfter.IsZero() {
		return resource.Served{NotAfter: notAfter}
	}
	return resource.Served{Missing: true, Message: d.issued.refusal(d.store.dir, v.Host)}
}

// authorities are where Caddy's storage has the certificates of each authority,
// for one look at all hosts. It is opened by the first that asks.
type authorities struct {
	storage string
	root    *os.Root // nil: not opened
	dirs    []string
}

// open lists the directories. Caddy's user may write there: no link leads out.
func (a *authorities) open() {
	if a.root != nil {
		return
	}
	root, err := os.OpenRoot(a.storage)
	if err != nil {
		return // Caddy has not run yet
	}
	a.root = root
	a.dirs, _ = fs.Glob(root.FS(), "certificates/*") // the pattern is good
	// Caddy's own authority has no part in it: the mode was another one before.
	a.dirs = slices.DeleteFunc(a.dirs, func(dir string) bool { return path.Base(dir) == "local" })
}

func (a *authorities) close() {
	if a.root != nil {
		a.root.Close()
	}
}

// look finds the certificate of a host.
func (i *issued) look(in *authorities, host string) (notAfter time.Time) {
	in.open()
	for _, dir := range in.dirs {
		if at := i.expiry(in.root, path.Join(dir, host, host+".crt")); at.After(notAfter) {
			notAfter = at
		}
	}
	return notAfter
}

func (i *issued) expiry(root *os.Root, name string) time.Time {
	info, err := root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() {
		return time.Time{}
	}
	st := info.Sys().(*syscall.Stat_t)
	now := stamp{st.Ino, st.Size, st.Ctim.Nano()}
	if last, known := i.certificates[name]; known && last.stamp == now {
		return last.notAfter
	}
	data, err := root.ReadFile(name)
	if err != nil {
		return time.Time{}
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return time.Time{}
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}
	}
	if i.certificates == nil {
		i.certificates = map[string]issue{}
	}
	i.certificates[name] = issue{now, leaf.NotAfter}
	return leaf.NotAfter
}

// refusal is what the authority said last about a host, as far as Caddy's log tells.
func (i *issued) refusal(dir, host string) string {
	if time.Since(i.refusalsAt) > logAgain {
		i.refusals, i.refusalsAt = map[string]string{}, time.Now()
		for line := range bytes.Lines(lastLog(dir)) {
			var e struct{ Logger, Msg, Identifier, Error string }
			at := bytes.IndexByte(line, '{') // after the time that the supervisor writes
			if at < 0 || json.Unmarshal(line[at:], &e) != nil {
				continue
			}
			if strings.HasPrefix(e.Logger, "tls.") && e.Identifier != "" && e.Error != "" {
				i.refusals[e.Identifier] = shown(e.Error)
			}
		}
	}
	return i.refusals[host]
}

// lastLog is the end of Caddy's log, with whole lines: what TailLog cuts short
// would be no JSON.
func lastLog(dir string) []byte {
	r, err := supervise.OpenLog(context.Background(), dir, supervise.LogOptions{Tail: logLines})
	if err != nil {
		return nil
	}
	defer r.Close()
	text, _ := io.ReadAll(r)
	return text
}

// shown is text of somebody else's, on one line and bounded.
func shown(s string) string {
	return host.Shorten(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s), messageMax)
}
