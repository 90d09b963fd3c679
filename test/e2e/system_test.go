package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/supervise/supervisetest"
	"tekton.host/test/systemdhost"
)

const (
	systemConfig = `apiVersion: tekton.host/v1alpha1
kind: Host
spec:
  stateDir: ` + serverDisk + `/state
  runtime: {supervisor: %s, seccomp: false}
  ingress: {mode: system, tls: "off"}
  postgres: {mode: system}
`
	debianCaddyfile = "/etc/caddy/Caddyfile"
	debianPostgres  = "/etc/postgresql/17/main"
)

// TestSystemServices tells the whole story on a host that has its Caddy and its
// PostgreSQL already, as Debian installs them: an operator writes the lines that
// tekton asks for, an object comes, changes, lives through kills, reloads and a
// reboot, and goes; what the operator had is as before.
func TestSystemServices(t *testing.T) {
	supervisetest.Root(t, "systemd-nspawn")
	if systemdhost.Inside() {
		return // it boots hosts
	}
	t.Parallel()
	s := newServer(t, "systemd", systemConfig)
	s.services()
	app := func(generation string) {
		t.Helper()
		s.check(os.WriteFile(s.specs("app.yaml"), []byte(s.guest("app", "routes: [{host: app.test, port: 8080}]", rebootDatabase, `environment: {GENERATION: "`+generation+`"}`)), 0o644))
	}
	app("1")
	s.lines()
	s.observedService(s.all("app")["app"], "1")

	before := s.servicePIDs()
	app("2")
	now := s.generationServed("2")
	s.guestOf(now, "/sql", "q", "CREATE TABLE t (x text)")
	s.guestOf(now, "/sql", "q", "INSERT INTO t VALUES ('kept')")

	s.inside("systemctl", "kill", "--signal=KILL", "tektond.service")
	s.inside("systemctl", "reload", "caddy.service")
	s.observedService(s.all("app")["app"], "2")
	if after := s.servicePIDs(); after != before {
		t.Errorf("services were restarted: %s, before %s", after, before)
	}
	ctx := t.Context()
	s.check(s.host.PowerOff(ctx))
	s.check(s.host.PowerOn())
	s.observedService(s.all("app")["app"], "2")
	if got := s.psqlIn(s.database(), "SELECT x FROM t"); got != "kept" {
		t.Errorf("after the reboot the table holds %q", got)
	}
	s.inside(systemdhost.ProgramsDir+"/tekton", "delete", "app")
	s.all()
	s.eventually("nothing is left", s.nothingOfOurs)
	if body := s.curl("mine.test"); body != "mine" {
		t.Errorf("the operator's site: %q", body)
	}
}

// services starts the host's own Caddy and PostgreSQL, with something in them.
func (s *server) services() {
	s.t.Helper()
	s.put(debianCaddyfile, ":80 {\n\trespond \"the operator's\"\n}\nhttp://mine.test {\n\trespond \"mine\"\n}\n")
	s.inside("systemctl", "enable", "--now", "caddy.service", "postgresql.service")
	s.eventually("PostgreSQL is up", func() error {
		_, err := s.host.Run(s.t.Context(), "runuser", "-u", "postgres", "--", "createdb", "theirs")
		return err
	})
}

// put writes a file in the host, keeping whose it is.
func (s *server) put(path, content string) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "file")
	s.check(os.WriteFile(file, []byte(content), 0o644))
	s.check(s.host.Copy(file, path))
}

// lines has the operator write what the conditions ask for.
func (s *server) lines() {
	s.t.Helper()
	line := "import " + serverDisk + "/state/services/caddy/current/*.caddy"
	s.said("app", "listen_addresses = 'localhost,10.100.0.1'")
	s.put(debianPostgres+"/conf.d/machines.conf", "listen_addresses = 'localhost,10.100.0.1'\n")
	s.put("/etc/sysctl.d/machines.conf", "net.ipv4.ip_nonlocal_bind = 1\n")
	s.inside("sysctl", "--load=/etc/sysctl.d/machines.conf")
	s.inside("systemctl", "restart", "postgresql.service")
	s.said("app", "host sameuser all 10.100.0.0/16 scram-sha-256")
	rules := s.inside("cat", debianPostgres+"/pg_hba.conf")
	s.put(debianPostgres+"/pg_hba.conf", "host sameuser all 10.100.0.0/16 scram-sha-256\nhost all all 10.100.0.0/16 reject\n"+rules+"\n")
	s.inside("systemctl", "reload", "postgresql.service")
	s.said("app", line)
	s.put(debianCaddyfile, s.inside("cat", debianCaddyfile)+"\n"+line+"\n")
}

// said waits until a condition of an object has some words.
func (s *server) said(name, words string) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("%s says %q", name, words), func() error {
		items, err := s.items()
		if err != nil {
			return err
		}
		for _, c := range items[name].Status.Conditions {
			if c.Status != v1alpha1.ConditionTrue && strings.Contains(c.Message, words) {
				return nil
			}
		}
		return fmt.Errorf("%+v", items[name].Status.Conditions)
	})
}

// observedService looks at an object with the eyes of others.
func (s *server) observedService(i v1alpha1.Item, generation string) {
	s.t.Helper()
	s.eventually("generation "+generation+" is served", func() error {
		body, err := s.host.Run(s.t.Context(), "curl", "-sSf", "-H", "Host: app.test", "http://127.0.0.1/")
		if err == nil && !strings.Contains(body, `"`+generation+`"`) {
			err = errors.New(body)
		}
		return err
	})
	if body := s.curl("mine.test"); body != "mine" {
		s.t.Errorf("the operator's site: %q", body)
	}
	if got := s.guestOf(i, "/sql", "q", "SELECT current_user = current_database()"); got != "true" {
		s.t.Errorf("the machine is not in the database of its role: %s", got)
	}
	if got := s.psqlIn("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = '"+s.database()+"' AND NOT rolsuper"); got != "1" {
		s.t.Errorf("%s roles of the object", got)
	}
	weaker := false
	for _, c := range i.Status.Conditions {
		weaker = weaker || c.Type == v1alpha1.ConditionHostServices && c.Status == v1alpha1.ConditionTrue && strings.Contains(c.Message, "databases: ")
	}
	if !weaker {
		s.t.Errorf("it is not said what is promised less: %+v", i.Status.Conditions)
	}
}

func (s *server) curl(host string) string {
	s.t.Helper()
	return s.inside("curl", "-sS", "-H", "Host: "+host, "http://127.0.0.1/")
}

func (s *server) psqlIn(database, sql string) string {
	s.t.Helper()
	return s.inside("runuser", "-u", "postgres", "--", "psql", "-XAtq", "-d", database, "-c", sql)
}

// database is the name of the object's.
func (s *server) database() string {
	s.t.Helper()
	return s.psqlIn("postgres", "SELECT datname FROM pg_database WHERE datname LIKE '%app%'")
}

// servicePIDs says which processes the services are.
func (s *server) servicePIDs() string {
	s.t.Helper()
	return s.property("caddy.service", "MainPID") + " " + s.property("postgresql@17-main.service", "MainPID")
}

func (s *server) generationServed(generation string) v1alpha1.Item {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		i := s.all("app")["app"]
		if strings.Contains(s.curl("app.test"), `"`+generation+`"`) {
			return i
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("generation %s is not served: %s", generation, s.curl("app.test"))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (s *server) nothingOfOurs() error {
	var errs []error
	for what, sql := range map[string]string{
		"databases": "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1', 'theirs')",
		"roles":     "SELECT rolname FROM pg_roles WHERE rolname NOT LIKE 'pg\\_%' AND rolname <> 'postgres'",
	} {
		if got := s.psqlIn("postgres", sql); got != "" {
			errs = append(errs, fmt.Errorf("%s are left: %s", what, got))
		}
	}
	if config := s.inside("curl", "-sS", "http://localhost:2019/config/"); strings.Contains(config, "app.test") {
		errs = append(errs, errors.New("Caddy has the site"))
	}
	errs = append(errs, s.none("links", "ip", "-o", "link", "show", "type", "veth"), s.none("rules", "nft", "list", "tables"),
		s.none("files", "find", serverDisk+"/state/services", "-mindepth", "1"))
	return errors.Join(errs...)
}
