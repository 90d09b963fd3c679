package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// withTLS has a daemon that is not started yet serve it, too.
func (k *tekton) withTLS() {
	k.t.Helper()
	b, err := os.ReadFile(k.path("host.yaml"))
	k.check(err)
	text := strings.Replace(string(b), `httpsPort: 0, tls: "off"`, fmt.Sprintf(`httpsPort: %d, tls: internal`, k.httpsPort()), 1)
	k.check(os.WriteFile(k.path("host.yaml"), []byte(text), 0o644))
}

func (k *tekton) httpsPort() int { return 19000 + k.n }

// authority is what people who use the host's sites trust.
func (k *tekton) authority() []byte {
	k.t.Helper()
	b, err := os.ReadFile(k.state("services/caddy/storage/caddy/pki/authorities/local/root.crt"))
	if err != nil {
		b, err = os.ReadFile(k.state("services/caddy/storage/pki/authorities/local/root.crt"))
	}
	k.check(err)
	return b
}

// servesTLS asks for a site by TLS, trusting one authority.
func (k *tekton) servesTLS(host string, authority []byte) error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", k.httpsPort()))
		},
	}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get(fmt.Sprintf("https://%s:%d/", host, k.httpsPort()))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// destroy takes away all of an installation, as the loss of its host would.
func (k *tekton) destroy() {
	k.t.Helper()
	k.signal(syscall.SIGKILL)
	k.sweep()
	k.check(os.RemoveAll(k.state()))
	k.check(os.RemoveAll(k.path("run")))
}

// files is what a volume holds: names, owners, links, attributes, content.
func files(t testing.TB, dir string) string {
	t.Helper()
	find := exec.Command("find", ".", "-printf", `%P %y %m %U:%G %n %l %s %T@\n`)
	find.Dir = dir
	sums := exec.Command("sh", "-c", "find . -type f -print0 | sort -z | xargs -0 sha256sum")
	sums.Dir = dir
	var out []string
	for _, cmd := range []*exec.Cmd{find, sums} {
		b, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", cmd.Args, err)
		}
		out = append(out, string(b))
	}
	note := make([]byte, 100)
	n, err := unix.Getxattr(filepath.Join(dir, "owned"), "user.note", note)
	return strings.Join(append(out, fmt.Sprintf("%q %v", note[:max(n, 0)], err)), "\n")
}

// password of an object's database; its name has the instance in it.
func (k *tekton) password(object string) string {
	k.t.Helper()
	found, err := filepath.Glob(k.state("passwords", "*_container_"+object+"_main"))
	if err != nil || len(found) != 1 {
		k.t.Fatalf("passwords of %s: %v %v", object, found, err)
	}
	b, err := os.ReadFile(found[0])
	k.check(err)
	return string(b)
}

// TestBackup makes a backup of a host that goes on meanwhile, destroys the host,
// and puts the backup back on another one, with other directories, instance,
// addresses and ports. What is cut or changed is refused, and a restore that is
// killed goes on.
func TestBackup(t *testing.T) {
	t.Parallel()
	from := &agentTest{tekton: prepare(t), key: filepath.Join(t.TempDir(), "key")}
	from.withTLS()
	from.up()
	from.newKey(from.key)
	_, err := from.runWith("the-token", "secret", "set", "token")
	from.check(err)
	from.write("app.yaml", from.guest("app", "databases: [{name: main}]", "volumes: [{name: data, path: /data}]", "routes: [{host: app.test, port: 8080}]",
		"credentials: [{name: token, env: TOKEN}]"))
	from.write("gone.yaml", from.guest("gone", "databases: [{name: main}]"))
	from.write("fix.yaml", agent("fix", "sshKeys: ["+from.publicKey(from.key)+"]"))
	from.ready("app", "fix", "gone")
	for _, name := range []string{"app", "gone"} {
		from.mustAsk(name, "/sql", "q", "CREATE TABLE notes (line text)")
		from.mustAsk(name, "/sql", "q", "INSERT INTO notes VALUES ('first'), ('second')")
	}
	from.mustAsk("app", "/append", "path", "/data/sub/of-the-machine", "data", "content")
	from.mustSSH("fix", "echo kept > note; chmod 640 note")
	volume := volumeOf(from.tekton, "app", "data")
	from.check(os.Link(filepath.Join(volume, "sub/of-the-machine"), filepath.Join(volume, "second-name")))
	from.check(os.WriteFile(filepath.Join(volume, "owned"), []byte("x"), 0o640))
	from.check(os.Chown(filepath.Join(volume, "owned"), 1000, 33))
	from.check(unix.Setxattr(filepath.Join(volume, "owned"), "user.note", []byte("kept"), 0))
	from.check(os.Symlink("/etc/shadow", filepath.Join(volume, "link")))
	from.remove("gone.yaml")
	from.gone("gone")
	from.eventually("TLS is served", func() error { return from.servesTLS("app.test", from.authority()) })
	from.settled()

	archive := filepath.Join(t.TempDir(), "host.tar.gz")
	from.must("backup", "create", archive)
	if info, err := os.Stat(archive); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the archive: %v %v", info, err)
	}
	if out := from.must("backup", "verify", archive); !strings.Contains(out, "databases/") || !strings.Contains(out, "state/volumes") {
		t.Errorf("in it is:\n%s", out)
	}
	for _, compress := range []string{"gzip", "none"} { // to a pipe
		stream := from.must("backup", "create", "-", "--compress", compress)
		if _, err := from.runWith(stream, "backup", "verify", "-"); err != nil {
			t.Errorf("%s, by a pipe: %v", compress, err)
		}
		if _, err := from.runWith(stream[:len(stream)-600], "backup", "verify", "-"); err == nil {
			t.Errorf("%s: what came by a pipe that broke is taken for whole", compress)
		}
	}
	from.lostLedger(archive)
	from.settled() // nothing noticed
	want := hostState{
		files: files(t, volume), authority: string(from.authority()), hostKey: from.get("fix").Status.SSH.HostKey, password: from.password("app"),
		uid: from.get("app").Metadata.UID,
	}
	from.mustAsk("app", "/sql", "q", "INSERT INTO notes VALUES ('after the backup')")
	config := from.must("backup", "host-file", archive)
	from.destroy()
	if left := from.left(); len(left) > 0 {
		t.Fatalf("left of the host: %s", strings.Join(left, "\n"))
	}

	to := &agentTest{tekton: prepare(t), key: from.key}
	to.withTLS()
	if mine, err := os.ReadFile(from.path("host.yaml")); err != nil || config != string(mine) {
		t.Errorf("the Host file of the archive is not the one that was used: %v\n%s", err, config)
	}
	to.check(os.RemoveAll(to.state()))
	// The image is no part of a backup; its specs say where it is.
	to.restores(archive)
	to.up()
	to.ready("app", "fix")
	to.compare(want)
	to.settled()
	to.write("gone.yaml", to.guest("gone", "databases: [{name: main}]"))
	to.ready("gone")
	if got := to.mustAsk("gone", "/sql", "q", "SELECT string_agg(line, ',' ORDER BY line) FROM notes"); !strings.Contains(got, "first,second") {
		t.Errorf("what was retained in PostgreSQL is %s", got)
	}
	if entries, err := os.ReadDir(to.state("restored")); err != nil || len(entries) > 0 {
		t.Errorf("of the dumps is left %v %v", entries, err)
	}
}

// lostLedger loses it, with its previous version, and takes it out of a backup as
// docs/operations.md says.
func (k *agentTest) lostLedger(archive string) {
	k.t.Helper()
	pid, uid := k.leader("app"), k.get("app").Metadata.UID
	k.signal(syscall.SIGTERM)
	k.check(os.Remove(k.state("ledger.json")))
	k.check(os.Remove(k.state("ledger.json.1")))
	mustRun(k.t, "sh", "-c", "umask 077; tar -xzOf "+archive+" state/ledger.json > "+k.state("ledger.json"))
	k.up()
	k.ready("app", "fix")
	if k.leader("app") != pid || k.get("app").Metadata.UID != uid {
		k.t.Error("with the ledger of a backup it is another object, or was started again")
	}
}

type hostState struct{ files, authority, hostKey, password, uid string }

// volumeOf is where a volume of a container lies.
func volumeOf(k *tekton, object, volume string) string {
	k.t.Helper()
	found, err := filepath.Glob(k.state("volumes", "*", object, volume))
	if err != nil || len(found) != 1 {
		k.t.Fatalf("volume %s of %s: %v %v", volume, object, found, err)
	}
	return found[0]
}

// restores refuses what is no whole archive, and puts one back though it is killed.
func (k *agentTest) restores(archive string) {
	k.t.Helper()
	restore := []string{"backup", "restore", "--config", k.path("host.yaml")}
	whole, err := os.ReadFile(archive)
	k.check(err)
	bad := filepath.Join(k.t.TempDir(), "bad")
	for name, b := range map[string][]byte{"cut": whole[:len(whole)/2], "changed": append(append([]byte{}, whole[:len(whole)/2]...), append([]byte{^whole[len(whole)/2]}, whole[len(whole)/2+1:]...)...)} {
		k.check(os.WriteFile(bad, b, 0o600))
		if _, err := k.run(append(restore, bad)...); err == nil {
			k.t.Fatalf("an archive that was %s is put back", name)
		}
		if _, err := os.Lstat(k.state()); err == nil {
			k.t.Fatalf("an archive that was %s left something", name)
		}
	}
	cmd := exec.Command(filepath.Join(k.programs, "tekton"), append(restore, archive)...)
	k.check(cmd.Start())
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if entries, err := os.ReadDir(k.state("restoring")); err == nil && len(entries) > 0 {
			break
		}
	}
	cmd.Process.Kill()
	if err := cmd.Wait(); err == nil {
		k.t.Fatal("the restore came to its end before it was killed")
	}
	if out, err := k.command().CombinedOutput(); err == nil || !strings.Contains(string(out), "a backup is being put back") {
		k.t.Fatalf("a daemon starts on half a backup: %v\n%s", err, out)
	}
	k.must(append(restore, archive)...)
	if _, err := k.run(append(restore, archive)...); err == nil || !strings.Contains(err.Error(), "is not empty") {
		k.t.Fatalf("put back twice: %v", err)
	}
}

// compare demands that the host is as the other one was when the backup was made.
func (k *agentTest) compare(want hostState) {
	k.t.Helper()
	if got := files(k.t, volumeOf(k.tekton, "app", "data")); got != want.files {
		k.t.Errorf("the volume was\n%s\nand is\n%s", want.files, got)
	}
	if got := k.mustAsk("app", "/sql", "q", "SELECT string_agg(line, ',' ORDER BY line) FROM notes"); !strings.Contains(got, "first,second") || strings.Contains(got, "after") {
		k.t.Errorf("the database holds %s", got)
	}
	if k.password("app") != want.password {
		k.t.Error("the database has another password")
	}
	if got := k.get("app").Metadata.UID; got != want.uid {
		k.t.Errorf("UID %s, then %s", want.uid, got)
	}
	if !strings.Contains(strings.Join(k.aboutOf("app").Env, "\n"), "TOKEN=the-token") {
		k.t.Error("the credential is not there")
	}
	if got := string(k.authority()); got != want.authority {
		k.t.Error("sites have another authority")
	}
	k.eventually("TLS is served as before", func() error { return k.servesTLS("app.test", []byte(want.authority)) })
	if got := k.get("fix").Status.SSH.HostKey; got != want.hostKey {
		k.t.Errorf("host key %s, then %s", want.hostKey, got)
	}
	if out := k.mustSSH("fix", "cat note; stat -c %a:%U note"); out != "kept\n640:agent" {
		k.t.Errorf("the agent's home has %q", out)
	}
}
