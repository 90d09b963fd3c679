package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/source/git/gittest"
)

// browse asks as a browser does.
func (k *tekton) browse(host string) (code int, page string) {
	k.t.Helper()
	return k.visit(web, host, "text/html,*/*;q=0.8")
}

// patient is a program that waits for longer than the activator has it wait.
var patient = &http.Client{Transport: web.Transport, Timeout: 40 * time.Second}

func (k *tekton) visit(client *http.Client, host, accept string) (code int, page string) {
	k.t.Helper()
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", k.httpPort()), nil)
	k.check(err)
	req.Host = host
	req.Header.Set("Accept", accept)
	resp, err := client.Do(req)
	k.check(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	k.check(err)
	return resp.StatusCode, string(b)
}

// asleep waits until an object sleeps, and nothing of its machine runs.
func (k *tekton) asleep(name string) {
	k.t.Helper()
	k.phase(name, v1alpha1.PhaseAsleep)
	k.eventually("its machine is gone", func() error {
		if m := k.machines(); len(m) > 0 {
			return fmt.Errorf("%q", m)
		}
		return nil
	})
}

// TestSleep: a preview that nobody asks for is stopped; health checks, pushes and
// restarts of the daemon do not wake it; a person gets a page, a program waits,
// and both are served then, with all data. While it is awake the daemon's death
// is not noticed; a wake meanwhile is not lost.
func TestSleep(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	srv := gittest.Serve(t, r)
	files := application(t)
	first := r.Push(files)
	k := start(t, "git: {user: nobody}", "previews: {domain: preview.test}")
	const host = "notes.preview.test"
	if out, err := k.run("preview", "create", srv.Address(), "main", "--name", "notes", "--refresh", "5s", "--sleep-after", "10s"); err != nil {
		t.Fatal(out, err)
	}
	k.ready("notes")
	k.previewed(host, first)
	if code, body, err := request(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/api/notes", k.httpPort()), host, "kept"); err != nil || code != http.StatusOK {
		t.Fatalf("add a note: %d %s %v", code, body, err)
	}
	k.asleep("notes")

	second := r.Push(map[string]string{"web.py": files["web.py"] + "# changed\n"})
	if c := k.condition("notes", v1alpha1.ConditionSetUp, "Asleep"); !strings.Contains(c.Message, second) {
		t.Errorf("of the push it is said: %s", c.Message)
	}
	for range 3 {
		if code, body, err := request(http.MethodHead, fmt.Sprintf("http://127.0.0.1:%d/", k.httpPort()), host, ""); err != nil || code != http.StatusOK {
			t.Errorf("a health check is answered %d %s %v", code, body, err)
		}
		time.Sleep(time.Second)
	}
	k.asleep("notes")
	if out := k.must("why", "preview/notes"); !strings.Contains(out, "Asleep") || !strings.Contains(out, "nobody has asked") {
		t.Errorf("why says\n%s", out)
	}

	if code, page := k.browse(host); code != http.StatusServiceUnavailable || !strings.Contains(page, `http-equiv="refresh"`) {
		t.Errorf("a person is shown %d %s", code, page)
	}
	k.previewed(host, second)
	k.ready("notes")
	if got := k.notes(host); got != `["kept"]` {
		t.Errorf("after its sleep the notes are %s", got)
	}
	k.signal(syscall.SIGKILL)
	if code, body, err := k.through(host, "/"); err != nil || code != http.StatusOK {
		t.Errorf("without a daemon it shows %d %s %v", code, body, err)
	}
	k.up()

	k.asleep("notes")
	k.signal(syscall.SIGKILL)
	if code, page := k.browse(host); code != http.StatusServiceUnavailable || !strings.Contains(page, `http-equiv="refresh"`) {
		t.Errorf("without a daemon a person is shown %d %s", code, page)
	}
	k.up()
	k.ready("notes") // by the request of before
	if got := k.notes(host); got != `["kept"]` {
		t.Errorf("after the second sleep the notes are %s", got)
	}
	k.asleep("notes")
	if code, page := k.visit(patient, host, "*/*"); code != http.StatusOK || !strings.Contains(page, second) {
		t.Errorf("a program that waits gets %d %s", code, page)
	}
	k.must("preview", "destroy", "notes")
	k.gone("notes")
	k.eventually("nothing is left", k.nothingLeft)
}
