package checkout_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/checkout"
	"tekton.host/pkg/host"
	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/source/git/gittest"
	"tekton.host/pkg/supervise"
	"tekton.host/pkg/supervise/supervisetest"
)

const patience = 30 * time.Second

// rig is a driver with a supervisor, and a repository behind a server.
type rig struct {
	*checkout.Driver
	t          *testing.T
	manager    *supervise.Manager
	layout     host.Layout
	knownHosts string
	remote     *gittest.Remote
	server     *gittest.Server
}

func newRig(t *testing.T) *rig {
	testenv.Root(t, "git")
	base := gittest.Dir(t)
	manager, err := supervise.New(supervise.Options{
		Form: supervise.Supervised, Program: supervisetest.Program(t), Parent: fmt.Sprintf("tkco%d", time.Now().UnixNano()),
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{
		t: t, manager: manager, knownHosts: filepath.Join(base, "known_hosts"), remote: gittest.New(t),
		layout: host.Layout{State: filepath.Join(base, "state"), Run: filepath.Join(base, "run"), Secrets: filepath.Join(base, "secrets")},
	}
	r.server = gittest.Serve(t, r.remote)
	for _, dir := range []string{r.layout.State, r.layout.Run} {
		if err := os.Mkdir(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(r.layout.Secrets, 0o700); err != nil {
		t.Fatal(err)
	}
	r.Driver = r.another()
	t.Cleanup(r.end)
	return r
}

// another returns a driver that knows nothing of the first, as after a restart.
func (r *rig) another() *checkout.Driver {
	self, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	d, err := checkout.New(checkout.Options{
		Layout: r.layout, Naming: resource.Naming{Instance: "c"}, Installation: "0123456789ab", Supervisor: r.manager, Program: self,
		User: "nobody", KnownHostsFile: r.knownHosts,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// end removes every checkout, and looks with independent eyes that nothing is left.
func (r *rig) end() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, c := range r.observe() {
		if r.t.Failed() {
			r.t.Logf("log of %s %s:\n%s", c.URL, c.Ref, strings.Join(supervise.TailLog(r.Dir(nameOf(c)), 40), "\n"))
		}
		if err := r.step(ctx, resource.Delete, c); err != nil {
			r.t.Error(err)
		}
	}
	for _, dir := range []string{r.layout.Checkouts(), r.layout.Mirrors(), r.layout.RunService("checkouts")} {
		if entries, _ := os.ReadDir(dir); len(entries) > 0 {
			r.t.Errorf("left in %s: %v", dir, entries)
		}
	}
	if units, err := r.manager.Units(ctx, ""); err != nil || len(units) > 0 {
		r.t.Errorf("units left: %v %v", units, err)
	}
	r.manager.Close()
}

func nameOf(c resource.Checkout) string { return resource.CheckoutName(c.URL, c.Ref, c.Secret) }

func (r *rig) observe() []resource.Checkout {
	r.t.Helper()
	d := r.Observe(context.Background())[resource.KindCheckout]
	if d.Err != nil || len(d.Unreadable) > 0 {
		r.t.Fatal(d.Err, d.Unreadable)
	}
	var out []resource.Checkout
	for _, i := range d.Items.Sorted() {
		out = append(out, i.Value.(resource.Checkout))
	}
	return out
}

func (r *rig) step(ctx context.Context, verb resource.Verb, c resource.Checkout) error {
	s := resource.Step{Verb: verb, Resource: resource.New(resource.HostOwner, "", nameOf(c), c)}
	return r.Apply(ctx, []resource.Step{s})[0]
}

func (r *rig) remove(c resource.Checkout) {
	r.t.Helper()
	if err := r.step(r.t.Context(), resource.Delete, c); err != nil {
		r.t.Fatal(err)
	}
}

// put asks for an attempt.
func (r *rig) put(ref string, attempt int, change ...func(*resource.Checkout)) resource.Checkout {
	r.t.Helper()
	c := resource.Checkout{URL: r.server.Address(), Ref: ref, Attempt: attempt, Deadline: resource.Duration(patience), MaxSize: 64 << 20}
	for _, f := range change {
		f(&c)
	}
	if err := r.step(r.t.Context(), resource.Put, c); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// until looks again and again until a checkout is as asked for.
func (r *rig) until(want resource.Checkout, what string, is func(resource.Checkout) bool) resource.Checkout {
	r.t.Helper()
	var last resource.Checkout
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for _, c := range r.observe() {
			if nameOf(c) == nameOf(want) {
				if last = c; is(c) {
					return c
				}
			}
		}
	}
	r.t.Fatalf("%s: not %s within %s: %+v", want.Ref, what, patience, last)
	return last
}

func (r *rig) ended(want resource.Checkout) resource.Checkout {
	r.t.Helper()
	return r.until(want, "ended", func(c resource.Checkout) bool { return c.Attempt == want.Attempt && !c.Fetch.Running })
}

// fetched expects an attempt that brings a commit.
func (r *rig) fetched(want resource.Checkout, commit string) resource.Checkout {
	r.t.Helper()
	c := r.ended(want)
	if f := c.Fetch; f.Reason != "" || f.Failures != 0 || f.Result.Commit != commit || f.Result.CommittedAt.IsZero() || c.Lost {
		r.t.Fatalf("%s is not fetched at %s: %+v", want.Ref, commit, c)
	}
	return c
}

// failed expects an attempt that fails for a reason, and that a result stays.
func (r *rig) failed(want resource.Checkout, reason, says, commit string) resource.Checkout {
	r.t.Helper()
	c := r.ended(want)
	if f := c.Fetch; f.Reason != reason || !strings.Contains(f.Message, says) || f.Failures == 0 || f.Result.Commit != commit || c.Lost {
		r.t.Fatalf("%s: not %s %q with the result %q: %+v", want.Ref, reason, says, commit, c)
	}
	return c
}

// git runs git on a checkout's mirror as somebody independent.
func (r *rig) git(c resource.Checkout, args ...string) string {
	r.t.Helper()
	return r.remote.Run("", append([]string{"-c", "safe.directory=*", "--git-dir=" + c.Fetch.Result.Dir}, args...)...)
}
