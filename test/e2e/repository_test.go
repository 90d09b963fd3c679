package e2e_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/source/git/gittest"
)

// worker is an object that commits to its clone at each start, as its user.
func worker(name, url string, lines ...string) string {
	return container(name, append([]string{
		"system: {host: true}", "user: nobody", "stopTimeout: 1s", "environment: {HOME: /}",
		`command: [sh, -ec, "cd /src; git -c user.name=a -c user.email=a@b commit -q --allow-empty -m start; git status --short > /src/.git/status; exec sleep infinity"]`,
		fmt.Sprintf("volumes: [{name: src, path: /src, deletionPolicy: Delete, repository: {url: %q, ref: main, secret: forge}}]", url),
	}, lines...)...)
}

// TestVolumeOfRepository: a volume that is a clone is made once, with the secret
// of the host, which is nowhere in it; it is its user's, and outlives machines.
func TestVolumeOfRepository(t *testing.T) {
	t.Parallel()
	const token = "t0ken-that-nobody-may-see"
	r := gittest.New(t)
	srv := gittest.Serve(t, r)
	srv.Intercept(gittest.Demand("git", token))
	k := prepare(t)
	k.extra = "git: {user: nobody}"
	k.writeConfig()
	k.up()
	setSecret := func(value string) {
		t.Helper()
		_, err := k.runWith(value, "secret", "set", "forge")
		k.check(err)
	}
	src := func(name string) string { return k.state("volumes/container", name, "src") }
	git := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command("git", append([]string{"-c", "safe.directory=*", "-C", src(name)}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	commits := func(name, want string) {
		t.Helper()
		k.eventually(name+" has "+want+" commits", func() error {
			out, err := exec.Command("git", "-c", "safe.directory=*", "-C", src(name), "rev-list", "--count", "HEAD").Output()
			if got := strings.TrimSpace(string(out)); err == nil && got != want {
				err = fmt.Errorf("it has %s", got)
			}
			return err
		})
	}
	first := r.Push(map[string]string{"README": "one"})
	k.write("work.yaml", worker("work", srv.Address()))
	k.condition("work", v1alpha1.ConditionSecretsReady, "SecretMissing")
	setSecret("wrong")
	k.condition("work", v1alpha1.ConditionFetched, "AuthenticationFailed")
	setSecret(token)
	k.ready("work")
	commits("work", "2")
	if got := git("work", "rev-parse", "HEAD~1"); got != first {
		t.Errorf("cloned at %s, pushed was %s", got, first)
	}
	if got := git("work", "config", "--get", "remote.origin.url"); got != srv.Address() {
		t.Errorf("origin is %s", got)
	}
	k.check(filepath.WalkDir(src("work"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != 65534 {
			t.Errorf("%s belongs to %d", path, info.Sys().(*syscall.Stat_t).Uid)
		}
		return err
	}))

	// The data is the user's: neither a push nor another machine changes it.
	r.Push(map[string]string{"README": "two"})
	k.write("work.yaml", worker("work", srv.Address(), `environment: {HOME: /, GENERATION: "2"}`))
	commits("work", "3")
	if got := git("work", "rev-parse", "origin/main"); got != first {
		t.Errorf("origin/main moved to %s", got)
	}
	k.settled()

	// A daemon that dies while it is fetched changes nothing.
	release := srv.Hang()
	defer release()
	k.write("other.yaml", worker("other", srv.Address()))
	k.condition("other", v1alpha1.ConditionFetched, "Fetching")
	k.signal(syscall.SIGKILL)
	k.awaitEnd()
	k.up()
	k.condition("other", v1alpha1.ConditionFetched, "Fetching")
	release()
	k.ready("other", "work")
	commits("other", "3")
	commits("work", "3")

	found, _ := exec.Command("grep", "-rlF", token, k.dir).Output()
	if got := strings.TrimSpace(string(found)); filepath.Base(got) != "forge" || strings.Contains(got, "\n") {
		t.Errorf("the token is in %s", got)
	}
	k.settled()
	for _, dir := range []string{k.state("mirrors"), k.state("checkouts"), k.state("staging"), k.path("run/checkouts"), k.path("run/clones")} {
		if entries, _ := os.ReadDir(dir); len(entries) > 0 {
			t.Errorf("left in %s: %v", dir, entries)
		}
	}
}
