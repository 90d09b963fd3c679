package ingress

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

// certificate is a copy of an operator's pair of files that Caddy's user can
// read. Its files are named by content, so that a renewed one is a change.
type certificate struct {
	Want   resource.Certificate `json:"want"`
	Stamps [2]stamp             `json:"stamps"` // of the operator's files when they were copied
	Cert   string               `json:"cert"`
	Key    string               `json:"key"`
	Names  []string             `json:"names,omitempty"` // that the certificate is for
	// NotAfter is when it expires. An older tekton did not write it: then the pair is read again.
	NotAfter time.Time `json:"notAfter,omitzero"`
}

// stamp tells cheaply whether a file may have changed.
type stamp struct {
	Inode   uint64 `json:"inode"`
	Size    int64  `json:"size"`
	Changed int64  `json:"changed"` // ctime in nanoseconds
}

func stampOf(path string) (stamp, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return stamp{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return stamp{st.Ino, st.Size, st.Ctim.Nano()}, nil
}

// fresh reports whether the operator's files are those that were copied.
func (c certificate) fresh() bool {
	cert, errCert := stampOf(c.Want.Cert)
	key, errKey := stampOf(c.Want.Key)
	return errors.Join(errCert, errKey) == nil && c.Stamps == [2]stamp{cert, key} && !c.NotAfter.IsZero()
}

func (c certificate) tls(d *draft) string { return d.quote(c.Cert) + " " + d.quote(c.Key) }

// valid reports whether the certificate is one for host. Without this check
// Caddy would make a certificate of its own for it.
func (c certificate) valid(host string) error {
	return (&x509.Certificate{DNSNames: c.Names}).VerifyHostname(host)
}

func (g *generation) imported(want resource.Certificate) (certificate, bool) {
	i := slices.IndexFunc(g.Certificates, func(c certificate) bool { return c.Want.Cert == want.Cert && c.Want.Key == want.Key })
	if i < 0 {
		return certificate{}, false
	}
	return g.Certificates[i], true
}

// importCertificates copies what is new or changed to dir for the group gid.
// A pair that cannot be used leaves its earlier copy in place.
func (g *generation) importCertificates(dir string, gid uint32) error {
	var errs []error
	var have []certificate
	for _, want := range g.Proxy.Certificates {
		old, ok := g.imported(want)
		old.Want = want
		if ok && old.fresh() {
			have = append(have, old)
			continue
		}
		c, err := copyCertificate(want, dir, gid)
		switch {
		case err == nil:
			have = append(have, c)
		case ok:
			have = append(have, old)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("certificate for %s: %w", strings.Join(want.Hosts, ", "), err))
		}
	}
	g.Certificates = have
	return errors.Join(errs...)
}

func copyCertificate(want resource.Certificate, dir string, gid uint32) (certificate, error) {
	c := certificate{Want: want}
	var content [2][]byte
	for i, file := range []string{want.Cert, want.Key} {
		var err error
		if c.Stamps[i], err = stampOf(file); err != nil { // before reading: a later change shows
			return c, err
		}
		if content[i], err = os.ReadFile(file); err != nil {
			return c, err
		}
	}
	pair, err := tls.X509KeyPair(content[0], content[1])
	if err != nil {
		return c, fmt.Errorf("%s with key %s: %w", want.Cert, want.Key, err)
	}
	c.Names, c.NotAfter = pair.Leaf.DNSNames, pair.Leaf.NotAfter
	sum := sha256.Sum256(slices.Concat(content[0], []byte{0}, content[1]))
	base := filepath.Join(dir, hex.EncodeToString(sum[:12]))
	c.Cert, c.Key = base+".crt", base+".key"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return c, err
	}
	return c, errors.Join(install(c.Cert, content[0], gid), install(c.Key, content[1], gid))
}

// install writes a file that only root and the group may read.
func install(path string, content []byte, gid uint32) error {
	if err := host.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	if err := os.Chown(path, 0, int(gid)); err != nil {
		return err
	}
	return os.Chmod(path, 0o640)
}

// pruneCertificates removes copies that g does not use.
func (g *generation) pruneCertificates(dir string) error {
	used := map[string]bool{}
	for _, c := range g.Certificates {
		used[c.Cert], used[c.Key] = true, true
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if p := filepath.Join(dir, e.Name()); !used[p] {
			err = errors.Join(err, os.Remove(p))
		}
	}
	return err
}
