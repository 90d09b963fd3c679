package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
)

// middleman takes the place of a service's socket; serve gets each connection
// and the path of the service's own socket. The service itself goes on. The end
// of the test, or what is returned, gives the place back.
func (k *tekton) middleman(socket string, serve func(c net.Conn, service string)) (back func()) {
	k.t.Helper()
	service, place := socket+".own", socket+".new"
	l, err := net.Listen("unix", place)
	k.check(err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	k.check(os.Chmod(place, 0o777))
	k.check(os.Link(socket, service))
	k.check(os.Rename(place, socket)) // there is a socket at every moment
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c, service)
		}
	}()
	back = sync.OnceFunc(func() {
		k.check(os.Rename(service, socket))
		l.Close()
	})
	k.t.Cleanup(back)
	return back
}

// TestCaddyAnswersWrong has the admin API of a Caddy that serves fail in every
// other way: machines come up, routes that were there are served, those that
// wait say why, and neither Caddy nor a machine is started again.
func TestCaddyAnswersWrong(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("one.yaml", k.routed("one"))
	k.ready("one")
	caddy, one := k.pidOf("caddy"), k.leader("one")
	failing := func(text string) func(net.Conn, string) {
		return func(c net.Conn, _ string) {
			defer c.Close()
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				io.WriteString(c, text)
			}
		}
	}
	var serve atomic.Value
	serve.Store(failing(""))
	back := k.middleman(k.path("run", "caddy", "admin.sock"), func(c net.Conn, service string) { serve.Load().(func(net.Conn, string))(c, service) })
	var gone, waiting []string
	for name, f := range map[string]func(net.Conn, string){
		"error":    failing("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\nbusy"),
		"garbage":  failing("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n\x00\xff{<html>"),
		"nothttp":  failing("SSH-2.0-OpenSSH_9.2p1\r\n"),
		"empty":    failing("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
		"cutshort": failing("HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n{"),
		"silent":   func(c net.Conn, _ string) { io.Copy(io.Discard, c) },
		"noloads":  k.refusesLoads,
	} {
		serve.Store(f)
		plain, route := "plain-"+name, "route-"+name
		k.write(plain+".yaml", k.guest(plain))
		k.write(route+".yaml", k.routed(route))
		k.ready(plain)
		k.told(route, v1alpha1.ConditionRouteReady, "Caddy")
		k.mustServe("one.test")
		// What is served is not known: no machine is taken from behind a route.
		k.must("delete", plain)
		gone, waiting = append(gone, plain), append(waiting, route)
	}
	back()
	k.gone(gone...)
	k.ready(waiting...)
	for _, route := range waiting {
		k.mustServe(route + ".test")
	}
	k.settled()
	if k.pidOf("caddy") != caddy || k.leader("one") != one {
		t.Error("Caddy or a machine was started again")
	}
}

// refusesLoads passes on what asks and fails what changes.
func (k *tekton) refusesLoads(c net.Conn, service string) {
	defer c.Close()
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	if req.URL.Path == "/load" {
		io.WriteString(c, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\nbusy")
		return
	}
	own, err := net.Dial("unix", service)
	if err != nil {
		return
	}
	defer own.Close()
	req.Close = true
	if req.Write(own) == nil {
		io.Copy(c, own)
	}
}

// changeMade is how PostgreSQL says that something was made or is another now.
var changeMade = regexp.MustCompile("(CREATE|ALTER) (ROLE|DATABASE)\x00")

// withAnswers passes on all between a client and PostgreSQL's own socket; of an
// answer that something was made it is asked whether it may pass.
func withAnswers(c net.Conn, service string, mayPass func() bool) {
	defer c.Close()
	own, err := net.Dial("unix", service)
	if err != nil {
		return
	}
	defer own.Close()
	go func() {
		io.Copy(own, c)
		own.Close()
	}()
	b := make([]byte, 64<<10)
	for {
		n, err := own.Read(b)
		if err != nil || changeMade.Match(b[:n]) && !mayPass() {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}

// TestPostgresAnswersLate withholds the answers to what was made for an object,
// for as long as others need to come up and go; then it loses some.
func TestPostgresAnswersLate(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("app.yaml", k.guest("app", ownDatabase, "routes: [{host: app.test, port: 8080}]"))
	k.ready("app")
	pid := k.leader("app")
	socket := k.path("run", "postgres", ".s.PGSQL.5432")
	var made atomic.Int32
	comes := func(n int32) {
		t.Helper()
		k.eventually("PostgreSQL has made something", func() error {
			if made.Load() < n {
				return fmt.Errorf("%d times", made.Load())
			}
			return nil
		})
	}

	k.signal(syscall.SIGKILL) // with its connections
	goOn := make(chan struct{})
	back := k.middleman(socket, func(c net.Conn, service string) {
		withAnswers(c, service, func() bool { made.Add(1); <-goOn; return true })
	})
	k.write("needs.yaml", k.guest("needs", ownDatabase))
	k.up()
	comes(1)
	k.write("web.yaml", k.routed("web"))
	k.ready("web")
	k.mustServe("web.test")
	k.mustAsk("app", "/sql", "q", "SELECT 1")
	k.must("delete", "web")
	k.gone("web")
	if i := k.get("needs"); i.Status.Phase == v1alpha1.PhaseReady {
		t.Errorf("nobody was told that its database is there: %+v", i.Status)
	}
	close(goOn)
	k.ready("needs", "app")
	k.mustAsk("needs", "/sql", "q", "SELECT 1")

	k.signal(syscall.SIGKILL)
	back()
	made.Store(0)
	const lost = 2 // its role and its database
	back = k.middleman(socket, func(c net.Conn, service string) {
		withAnswers(c, service, func() bool { return made.Add(1) > lost })
	})
	k.write("more.yaml", k.guest("more", ownDatabase))
	k.up()
	comes(lost)
	k.ready("more", "app")
	k.mustAsk("more", "/sql", "q", "SELECT 1")
	k.signal(syscall.SIGTERM)
	back()
	k.up()
	k.settled()
	if k.leader("app") != pid {
		t.Error("a slow PostgreSQL has restarted a machine")
	}
}
