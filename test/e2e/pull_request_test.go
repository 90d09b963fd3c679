package e2e_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"tekton.host/pkg/forge"
	"tekton.host/pkg/forge/forgetest"
	"tekton.host/pkg/source/git/gittest"
)

const (
	hookSecret = "what-deliveries-are-signed-with"
	cloneToken = "t0ken-that-only-git-gets"
)

// shop is the repository on the forge.
var shop = forge.Repository{Owner: "team", Name: "shop"}

// follower is an installation that follows the pull requests of a forge, set up
// as docs/webhook.md says: tekton-webhook is nobody, writes to a narrow source
// and asks on the readers' socket.
type follower struct {
	*tekton
	forge   *forgetest.Server
	remote  *gittest.Remote
	url     string // of the forge
	webhook *exec.Cmd
	comment int64 // the first that was seen
}

func newFollower(t *testing.T) *follower {
	t.Helper()
	f := &follower{tekton: prepare(t), forge: forgetest.New(), remote: gittest.New(t)}
	srv := gittest.Serve(t, f.remote)
	srv.Intercept(f.atForge)
	f.url = srv.URL
	f.forge.AddRepository(shop)
	f.forge.AddHook(forgetest.Hook{URL: "http://" + f.listen() + "/webhook/hub", Secret: hookSecret})
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	f.check(err)
	f.forge.AddApp(123456, "tekton", &key.PublicKey, shop.Owner)
	f.install(key)
	f.extra = fmt.Sprintf(`readSocketGroup: nogroup
  git: {user: nobody}
  previews: {domain: preview.test}
  sources:
  - {name: specs, path: %s}
  - {name: pull-requests, path: %s, allow: {kinds: [Preview], repositories: [shop], domains: ["*.preview.test"], maxObjects: 2}}`, f.specs(), f.path("webhook/specs"))
	f.writeConfig()
	return f
}

// atForge has one server be the API of the forge, and its git to who has the token.
func (f *follower) atForge(w http.ResponseWriter, r *http.Request) bool {
	path, isGit := strings.CutPrefix(r.URL.Path, "/"+shop.String()+".git")
	if !isGit {
		f.forge.ServeHTTP(w, r)
		return true
	}
	r.URL.Path = "/" + filepath.Base(f.remote.Bare) + path
	return gittest.Demand("git", cloneToken)(w, r)
}

// listen is where deliveries are taken.
func (f *follower) listen() string { return fmt.Sprintf("127.0.0.1:%d", f.httpPort()-1000) }

// install puts the program where its user may execute it, and gives that user
// what is the webhook's.
func (f *follower) install(key *rsa.PrivateKey) {
	f.t.Helper()
	program, err := os.ReadFile(filepath.Join(f.programs, "tekton-webhook"))
	f.check(err)
	f.check(os.WriteFile(f.path("tekton-webhook"), program, 0o755))
	dir := f.path("webhook")
	for _, d := range []string{dir, dir + "/specs", dir + "/state"} {
		f.check(os.Mkdir(d, 0o755))
	}
	for name, text := range map[string]string{
		"secret": hookSecret,
		"key":    string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
		"config.yaml": fmt.Sprintf("listen: %s\nspecs: %s/specs\nstate: %s/state\nsocket: %s\nforges:\n- {name: hub, type: github, url: %q, secretFiles: [secret], app: {id: \"123456\", keyFile: key}}\n",
			f.listen(), dir, dir, f.path("run/read.sock"), f.url),
	} {
		f.check(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	f.check(filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, nobody, nobody))
	}))
}

// follow starts tekton-webhook, and waits until it hears the daemon.
func (f *follower) follow() {
	f.t.Helper()
	log, err := os.OpenFile(f.path("webhook.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	f.check(err)
	defer log.Close()
	cmd := exec.Command(f.path("tekton-webhook"), "--config", f.path("webhook/config.yaml"))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	cmd.Stderr = log
	f.check(cmd.Start())
	f.webhook = cmd
	f.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	f.eventually("tekton-webhook hears the daemon", func() error {
		code, body, err := fetch("http://"+f.listen()+"/healthz", "")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("%d %s", code, body)
		}
		return err
	})
}

// killWebhook ends it without a word.
func (f *follower) killWebhook() {
	f.webhook.Process.Kill()
	f.webhook.Wait()
}

// push has the pull request show files, and returns the commit; args are of git commit.
func (f *follower) push(files map[string]string, args ...string) string {
	f.t.Helper()
	for name, text := range files {
		f.remote.Write(name, text)
	}
	id := f.remote.Commit(args...)
	f.remote.Git("push", "--quiet", "--force", "origin", "HEAD:refs/pull/1/head")
	return id
}

// deliver sends once what the forge has to tell; all of it has to be taken.
func (f *follower) deliver() {
	f.t.Helper()
	for _, d := range f.forge.Deliveries() {
		want, event := http.StatusAccepted, d.Header.Get("X-GitHub-Event")
		if event == "ping" {
			want = http.StatusOK
		}
		if code, err := d.Send(f.t.Context()); err != nil || code != want {
			f.t.Fatalf("a delivery of %s is answered %d %v, want %d", event, code, err, want)
		}
	}
}

// told waits until the comment on the pull request says what became of a commit.
// There is never another one.
func (f *follower) told(title, commit string) (body string) {
	f.t.Helper()
	f.eventually("the pull request is told: "+title, func() error {
		all := f.forge.Comments(shop, 1)
		if len(all) > 1 {
			f.t.Fatalf("%d comments: %+v", len(all), all)
		}
		if len(all) == 0 || !strings.Contains(all[0].Body, "**"+title+"** · commit ` "+commit[:12]+" `") {
			return fmt.Errorf("it is told %+v", all)
		}
		body = all[0].Body
		if f.comment == 0 {
			f.comment = all[0].ID
		}
		if all[0].ID != f.comment || all[0].Author != "tekton[bot]" {
			return fmt.Errorf("it is another comment than %d: %+v", f.comment, all[0])
		}
		return nil
	})
	return body
}

var commentLink = regexp.MustCompile(`<(http://[^>]+)>`)

// shown is what a reader sees of a commit: the comment is edited, its link leads
// to the preview through the ingress, and the one deployment that is live has the
// same one. It returns the name of the preview's host.
func (f *follower) shown(commit string) (host string) {
	f.t.Helper()
	body := f.told("The preview is ready", commit)
	link := commentLink.FindStringSubmatch(body)
	if link == nil {
		f.t.Fatalf("no link is in %q", body)
	}
	u, err := url.Parse(link[1])
	f.check(err)
	if u.Port() != fmt.Sprint(f.httpPort()) || !strings.HasSuffix(u.Hostname(), ".preview.test") {
		f.t.Fatalf("the link leads to %s", u)
	}
	if code, page, err := f.through(u.Hostname(), u.Path); err != nil || code != http.StatusOK || !strings.Contains(page, " at "+commit) {
		f.t.Errorf("it is told to be ready, and shows %d %s %v", code, page, err)
	}
	f.eventually("its deployment is live", func() error {
		live := f.live()
		if len(live) != 1 || live[0].State != forge.DeploymentSuccess || live[0].Commit != commit || live[0].URL != link[1] {
			return fmt.Errorf("%+v", live)
		}
		return nil
	})
	return u.Hostname()
}

// live are the deployments that have not ended.
func (f *follower) live() []forge.Deployment {
	return slices.DeleteFunc(f.forge.Deployments(shop), func(d forge.Deployment) bool { return d.State == forge.DeploymentInactive })
}

// in is where a text is in the files of the installation.
func (f *follower) in(text string) (files []string) {
	out, _ := exec.Command("grep", "-rlF", "--", text, f.dir).Output()
	for file := range strings.FieldsSeq(string(out)) {
		files = append(files, strings.TrimPrefix(file, f.dir+"/"))
	}
	return files
}

// TestPullRequest is the life of a pull request: opened, pushed to and closed on
// a forge that tells of it over HTTP, it is seen through Caddy meanwhile and gone
// afterwards. tekton-webhook and the daemon are killed on the way.
func TestPullRequest(t *testing.T) {
	t.Parallel()
	f := newFollower(t)
	t.Cleanup(func() {
		if log, _ := os.ReadFile(f.path("webhook.log")); t.Failed() {
			t.Logf("log of tekton-webhook:\n%s", log)
		}
	})
	f.remote.Push(map[string]string{"README": "a shop\n"})
	files := application(t)
	first := f.push(files)
	f.up()
	_, err := f.runWith(cloneToken, "secret", "set", "shop-token")
	f.check(err)
	f.write("shop.yaml", fmt.Sprintf("apiVersion: tekton.host/v1alpha1\nkind: Repository\nmetadata: {name: shop}\nspec:\n  url: %s/%s.git\n  secret: shop-token\n  pullRequests: {bases: [main]}\n", f.url, shop))
	f.follow()

	number := f.forge.Open(shop, forge.PullRequest{Base: "main", Branch: "notes", Commit: first, Author: "ann"})
	f.deliver()
	host := f.shown(first)
	name, _, _ := strings.Cut(host, ".")
	machine := f.get(name).Status.Machine
	if code, body, err := request(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/api/notes", f.httpPort()), host, "kept"); err != nil || code != http.StatusOK {
		log, _ := f.run("preview", "logs", name)
		t.Fatalf("add a note: %d %s %v; the application says:\n%s", code, body, err, log)
	}

	// What was accepted is not lost.
	second := f.push(map[string]string{"web.py": files["web.py"] + "# changed\n", "migrations/002_more.sql": "ALTER TABLE note ADD COLUMN more text;\n"})
	f.forge.Push(shop, number, second)
	f.deliver()
	f.killWebhook()
	f.follow()
	f.shown(second)

	// Without a daemon what was shown is shown, and deliveries wait for it. The
	// commit before is no longer on any branch.
	f.signal(syscall.SIGKILL)
	third := f.push(map[string]string{"web.py": files["web.py"] + "# changed again\n"}, "--amend")
	f.forge.Push(shop, number, third)
	f.deliver()
	if code, page, err := f.through(host, "/"); err != nil || code != http.StatusOK || !strings.Contains(page, " at "+second) {
		t.Errorf("without a daemon it shows %d %s %v", code, page, err)
	}
	f.up()
	if again := f.shown(third); again != host {
		t.Errorf("it was at %s, and is at %s", host, again)
	}
	if got := f.notes(host); got != `["kept"]` || f.get(name).Status.Machine != machine {
		t.Errorf("machine %s is %s now, and has the notes %s", machine, f.get(name).Status.Machine, got)
	}

	f.forge.Close(shop, number)
	f.deliver()
	f.told("No preview", third)
	f.gone(name)
	f.eventually("its deployments have ended", func() error {
		if live := f.live(); len(live) > 0 {
			return fmt.Errorf("%+v", live)
		}
		return nil
	})
	if all := f.forge.Deployments(shop); len(all) != 3 {
		t.Errorf("not one deployment a commit: %+v", all)
	}
	f.webhook.Process.Signal(syscall.SIGTERM)
	if err := f.webhook.Wait(); err != nil {
		t.Errorf("told to end, tekton-webhook ends with %v", err)
	}
	f.eventually("nothing is left", f.nothingLeft)
	f.settled()
	for secret, file := range map[string]string{hookSecret: "webhook/secret", cloneToken: "state/secrets/shop-token", "ghs_": ""} {
		if found := strings.Join(f.in(secret), " "); found != file {
			t.Errorf("%s is in %s, and belongs to %q only", secret, found, file)
		}
	}
}
