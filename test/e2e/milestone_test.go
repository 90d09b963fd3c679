package e2e_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOneFile is the first milestone: one file becomes a machine that answers
// from its address; without the file the host is as it was before.
func TestOneFile(t *testing.T) {
	k := start(t)
	before := k.look()
	k.write("web.yaml", k.guest("web"))
	k.ready("web")
	i := k.get("web")
	if got := k.aboutOf("web"); got.Hostname != "web" || got.Generation != "1" {
		t.Errorf("at %s answers %+v", i.Status.Address, got)
	}
	during := k.look()
	for _, what := range []string{"links", "addresses", "rules", "nft", "processes", "cgroups"} {
		if during[what] == before[what] {
			t.Errorf("%s are as before, though a machine runs: it runs somewhere else", what)
		}
	}
	k.remove("web.yaml")
	k.gone("web")
	k.eventually("the host is as before", func() error {
		if diff := cmp.Diff(before, k.look()); diff != "" {
			return fmt.Errorf("-before +after:\n%s", diff)
		}
		return nil
	})
	if code, _, err := fetch("http://"+i.Status.Address+":8080/", ""); err == nil {
		t.Errorf("the address of the deleted machine still answers with %d", code)
	}
	told := regexp.MustCompile(`(?s)^[^\n]* container/web Created \(local [^ ]*/web.yaml:1\)\n.* container/web Ready\n.*web.yaml was removed.*container/web Deleted`)
	k.eventually("the events tell it", func() error {
		if out, err := k.run("events", "web"); err != nil || !told.MatchString(out) {
			return fmt.Errorf("told was (%v):\n%s", err, out)
		}
		return nil
	})
}

// TestHostUserland needs no image: the machine has the host's own /usr.
func TestHostUserland(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("web.yaml", container("web", "system: {host: true}", "user: nobody", "routes: [{host: web.test, port: 8080}]",
		`command: [sh, -c, 'mkdir /tmp/www; cd /tmp/www; hostname > index.html; exec busybox httpd -f -p 8080']`))
	k.ready("web")
	code, body, err := k.through("web.test", "/")
	if err != nil || code != http.StatusOK || strings.TrimSpace(body) != "web" {
		t.Errorf("%d %q %v", code, body, err)
	}
}
