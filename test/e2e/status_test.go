package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

const pageToken = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"

// statusPage is tekton-status beside a daemon, and somebody who looks at it.
type statusPage struct {
	*tekton
	url     string
	process *exec.Cmd
	browser *http.Client
}

// statusPage starts the page as nobody, who is of the group of the narrow sockets.
func (k *tekton) statusPage() *statusPage {
	k.t.Helper()
	program, err := os.ReadFile(filepath.Join(k.programs, "tekton-status"))
	k.check(err)
	k.check(os.WriteFile(k.path("tekton-status"), program, 0o755)) // where anybody may execute it
	dir, port := k.path("page"), 19000+k.n
	k.check(os.Mkdir(dir, 0o700))
	config := fmt.Sprintf("listen: 127.0.0.1:%d\nsocket: %s\noperateSocket: %s\ntokenFile: token\n", port, k.path("run/read.sock"), k.path("run/operate.sock"))
	k.check(os.WriteFile(filepath.Join(dir, "status.yaml"), []byte(config), 0o400))
	k.check(os.WriteFile(filepath.Join(dir, "token"), []byte(pageToken+"\n"), 0o400))
	for _, name := range []string{"", "status.yaml", "token"} {
		k.check(os.Chown(filepath.Join(dir, name), nobody, nobody))
	}
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command(k.path("tekton-status"), append([]string{"--config", filepath.Join(dir, "status.yaml")}, args...)...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		return cmd
	}
	if out, err := command("--check").CombinedOutput(); err != nil || len(out) > 0 {
		k.t.Fatalf("its check says %s, %v", out, err)
	}
	jar, err := cookiejar.New(nil)
	k.check(err)
	p := &statusPage{tekton: k, url: fmt.Sprintf("http://127.0.0.1:%d", port), process: command(), browser: &http.Client{Jar: jar, Timeout: patience}}
	log, err := os.Create(k.path("page.log"))
	k.check(err)
	defer log.Close()
	p.process.Stderr = log
	k.check(p.process.Start())
	k.t.Cleanup(func() {
		p.process.Process.Kill()
		p.process.Wait()
	})
	p.shows("/healthz", "ok")
	return p
}

func (p *statusPage) answer(resp *http.Response, err error) (int, string, error) {
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// shows waits for a page with a text.
func (p *statusPage) shows(path, want string) (body string) {
	p.t.Helper()
	p.eventually(path+" shows "+want, func() error {
		code, text, err := p.answer(p.browser.Get(p.url + path))
		if body = text; err == nil && (code != http.StatusOK || !strings.Contains(text, want)) {
			err = fmt.Errorf("%d %s", code, text)
		}
		return err
	})
	return body
}

// post a form; the answer that redirects lead to.
func (p *statusPage) post(path string, form url.Values) (int, string) {
	p.t.Helper()
	code, body, err := p.answer(p.browser.PostForm(p.url+path, form))
	p.check(err)
	return code, body
}

// stream has the lines of a stream until the test ends.
func (p *statusPage) stream(path string) <-chan string {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	p.check(err)
	resp, err := (&http.Client{Jar: p.browser.Jar}).Do(req)
	p.check(err)
	if resp.StatusCode != http.StatusOK {
		p.t.Fatalf("%s: %s", path, resp.Status)
	}
	lines := make(chan string, 1000)
	go func() {
		defer resp.Body.Close()
		for in := bufio.NewScanner(resp.Body); in.Scan(); {
			lines <- in.Text()
		}
	}()
	return lines
}

func (p *statusPage) hears(lines <-chan string, want string) {
	p.t.Helper()
	for end := time.After(patience); ; {
		select {
		case line := <-lines:
			if strings.Contains(line, want) {
				return
			}
		case <-end:
			p.t.Fatalf("never: %s", want)
		}
	}
}

// TestStatusPage: a process of nobody shows what the daemon does as it happens; who
// has the token sees the log of a machine and starts it anew, and nobody else does.
func TestStatusPage(t *testing.T) {
	t.Parallel()
	k := start(t, "readSocketGroup: nogroup", "operateSocketGroup: nogroup")
	p := k.statusPage()
	ticker := func(name string) string {
		return container(name, "system: {host: true}", "command: [sh, -c, 'while :; do echo \"<b>tick</b> $((i += 1))\"; sleep 0.2; done']")
	}
	k.write("ticker.yaml", ticker("ticker"))
	k.ready("ticker")
	p.shows("/", "<h1>All is well</h1>")
	const object = "/objects/Container/ticker"
	p.shows(object, k.get("ticker").Status.Address)
	p.shows("/picture", ">● ticker</text>")
	p.shows("/plan", "Nothing is to be done")

	live := p.stream("/live")
	k.write("second.yaml", ticker("second"))
	p.hears(live, "container/second: ")
	p.shows("/events", `href="/objects/Container/second"`)

	for _, path := range []string{object + "/logs", object + "/logs/stream"} {
		if code, body, err := p.answer(p.browser.Get(p.url + path)); err != nil || code != http.StatusForbidden || strings.Contains(body, "tick&lt;") {
			t.Errorf("%s without a token: %d %s %v", path, code, body, err)
		}
	}
	if code, _ := p.post(object+"/restart", nil); code != http.StatusForbidden {
		t.Errorf("a restart without a token: %d", code)
	}
	if code, _ := p.post("/login", url.Values{"token": {"another"}}); code != http.StatusForbidden {
		t.Errorf("another token: %d", code)
	}
	if code, body := p.post("/login", url.Values{"token": {pageToken}}); code != http.StatusOK {
		t.Fatalf("the token: %d %s", code, body)
	}
	p.shows(object+"/logs", "&lt;b&gt;tick&lt;/b&gt; 1\n")
	p.hears(p.stream(object+"/logs/stream?tail=0"), `\u003cb\u003etick`)

	word := regexp.MustCompile(`name="csrf" value="([^"]+)"`).FindStringSubmatch(p.shows(object, "Restart ticker now"))
	before := k.get("ticker").Status.StartedAt
	if code, body := p.post(object+"/restart", url.Values{"csrf": {word[1]}}); code != http.StatusOK || !strings.Contains(body, "asked for another start") {
		t.Errorf("restart: %d %s", code, body)
	}
	k.eventually("it was started anew", func() error {
		if now := k.get("ticker").Status.StartedAt; !now.After(before) {
			return fmt.Errorf("it runs since %s", now)
		}
		return nil
	})

	k.signal(syscall.SIGKILL)
	k.awaitEnd()
	p.shows("/", "The daemon is not heard")
	p.shows(object, "ticker")
	k.up()
	p.shows("/healthz", "ok")

	k.check(p.process.Process.Signal(syscall.SIGTERM))
	if err := p.process.Wait(); err != nil {
		t.Errorf("told to end, it ends with %v", err)
	}
}
