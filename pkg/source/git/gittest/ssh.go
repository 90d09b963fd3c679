package gittest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// SSH is a Remote behind sshd, and how to come in.
type SSH struct {
	Address, KeyFile, KnownHostsFile string
	dir                              string
}

// sshd wants to be called by its whole path.
const sshd = "/usr/sbin/sshd"

// ServeSSH serves a repository over ssh: one sshd a connection.
func ServeSSH(t testing.TB, r *Remote) *SSH {
	t.Helper()
	s := &SSH{dir: Dir(t)}
	s.KeyFile, s.KnownHostsFile = filepath.Join(s.dir, "key"), filepath.Join(s.dir, "known_hosts")
	Key(t, s.KeyFile)
	Key(t, s.path("host"))
	if err := os.MkdirAll("/run/sshd", 0o755); os.Geteuid() == 0 && err != nil {
		t.Fatal(err) // what sshd sees of the file system before somebody has logged in
	}
	authorized, err := os.ReadFile(s.KeyFile + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "authorized_keys", string(authorized))
	s.write(t, "config", fmt.Sprintf("HostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n",
		s.path("host"), s.path("authorized_keys")))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.serve(t, l)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s.Address = fmt.Sprintf("ssh://%s@%s%s", me.Username, l.Addr(), r.Bare)
	s.Known(t, "host.pub", l.Addr().String())
	return s
}

// Known has known_hosts say that this is the key of the server.
func (s *SSH) Known(t testing.TB, public, addr string) {
	t.Helper()
	key, err := os.ReadFile(s.path(public))
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(addr, ":")
	s.write(t, "known_hosts", fmt.Sprintf("[%s]:%s %s", host, port, key))
}

func (s *SSH) path(name string) string { return filepath.Join(s.dir, name) }

func (s *SSH) write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(s.path(name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *SSH) serve(t testing.TB, l net.Listener) {
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() {
				defer conn.Close()
				f, err := conn.(*net.TCPConn).File()
				if err != nil {
					return
				}
				defer f.Close()
				cmd := exec.Command(sshd, "-i", "-e", "-f", s.path("config"))
				cmd.Stdin, cmd.Stdout = f, f
				_ = cmd.Run() // that a client is refused is no error of ours
			})
		}
	})
	t.Cleanup(func() { l.Close(); sessions.Wait() })
}

// Key makes a key pair without a passphrase: path and path.pub.
func Key(t testing.TB, path string) {
	t.Helper()
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
}
