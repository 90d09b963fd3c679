package secret

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

const installation = "0123456789ab"

func newDriver(t *testing.T) (*Driver, host.Layout) {
	t.Helper()
	l := host.Layout{State: filepath.Join(t.TempDir(), "state")}
	key, err := LoadOrCreateKey(l)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Options{Layout: l, Installation: installation, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return d, l
}

func password(l host.Layout, owner, role string) resource.Resource {
	return resource.New(owner, "", role, resource.Password{File: filepath.Join(l.Passwords(), role)})
}

func apply(d *Driver, verb resource.Verb, r resource.Resource, seen ...resource.Resource) error {
	s := resource.Step{Verb: verb, Resource: r}
	if len(seen) > 0 {
		s.Seen = &seen[0]
	}
	return d.Apply(context.Background(), []resource.Step{s})[0]
}

func observe(t *testing.T, d *Driver) resource.Set {
	t.Helper()
	domain := d.Observe(t.Context())[resource.KindPassword]
	if domain.Err != nil {
		t.Fatal(domain.Err)
	}
	return domain.Items
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var ignoreDigest = cmpopts.IgnoreFields(resource.Password{}, "Digest")

func TestPasswordIsMadeOnce(t *testing.T) {
	d, l := newDriver(t)
	if got := observe(t, d); len(got) != 0 {
		t.Errorf("observed %v on a new host", got)
	}
	want := password(l, "u1", "role_a")
	must(t, apply(d, resource.Put, want))
	first, err := os.ReadFile(filepath.Join(l.Passwords(), "role_a"))
	must(t, err)
	if len(first) != 43 {
		t.Errorf("password has %d characters, want 43 (32 bytes in base64url)", len(first))
	}
	st, err := os.Stat(filepath.Join(l.Passwords(), "role_a"))
	must(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, want 0600", st.Mode())
	}
	if diff := cmp.Diff(resource.NewSet(want), observe(t, d), ignoreDigest); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
	must(t, apply(d, resource.Put, want))
	if again, _ := os.ReadFile(filepath.Join(l.Passwords(), "role_a")); string(again) != string(first) {
		t.Error("a second Put made another password")
	}

	digest := func() string { return observe(t, d)[want.ID].Value.(resource.Password).Digest }
	before := digest()
	if before == "" || before != digest() || strings.Contains(string(first), before) {
		t.Errorf("digest %q", before)
	}
	must(t, os.WriteFile(filepath.Join(l.Passwords(), "role_a"), []byte("changed by hand, long enough"), 0o600))
	if digest() == before {
		t.Error("the digest of a changed password is the same")
	}

	must(t, apply(d, resource.Delete, want))
	must(t, apply(d, resource.Delete, want))
	if got := observe(t, d); len(got) != 0 {
		t.Errorf("left %v", got)
	}
}

func TestPasswordOwners(t *testing.T) {
	d, l := newDriver(t)
	old, other := password(l, "u1", "role_a"), password(l, "u2", "role_a")
	must(t, apply(d, resource.Put, old))
	first, _ := os.ReadFile(filepath.Join(l.Passwords(), "role_a"))
	for _, verb := range []resource.Verb{resource.Put, resource.Delete} {
		if err := apply(d, verb, other); !errors.Is(err, resource.ErrStale) {
			t.Errorf("%s of another's password: %v, want ErrStale", verb, err)
		}
	}
	must(t, apply(d, resource.Put, other, old)) // taken over knowingly
	if now, _ := os.ReadFile(filepath.Join(l.Passwords(), "role_a")); string(now) != string(first) {
		t.Error("a take-over made another password")
	}
	if got := observe(t, d)[other.ID]; got.Owner != "u2" {
		t.Errorf("owner = %q, want u2", got.Owner)
	}
	must(t, os.WriteFile(d.owner("role_a"), []byte("tekton/ffffffffffff/u2\n"), 0o600))
	if got := observe(t, d); len(got) != 0 {
		t.Errorf("observed another installation's %v", got)
	}
	taken := apply(d, resource.Put, other)
	if _, ok := errors.AsType[*resource.WaitingError](taken); !ok || resource.Reason(taken, "") != "Conflict" {
		t.Errorf("Put over another installation's password, which somebody may remove: %v", taken)
	}
	if err := apply(d, resource.Delete, other); !errors.Is(err, resource.ErrStale) {
		t.Errorf("delete of another installation's: %v", err)
	}
}

func TestPasswordCrashes(t *testing.T) {
	d, l := newDriver(t)
	want := password(l, "u1", "role_a")
	// The mark is written, the password is not.
	must(t, os.MkdirAll(d.owner(""), 0o700))
	must(t, os.WriteFile(d.owner("role_a"), []byte("tekton/"+installation+"/u1\n"), 0o600))
	if got, there := observe(t, d)[want.ID]; !there || got.Equal(want) {
		t.Errorf("observed %v, want one that differs", got)
	}
	must(t, apply(d, resource.Put, want))
	// The password is removed, its mark is not.
	must(t, os.Remove(filepath.Join(l.Passwords(), "role_a")))
	must(t, apply(d, resource.Delete, observe(t, d)[want.ID]))
	if _, err := os.Stat(d.owner("role_a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the mark is left: %v", err)
	}
	// A password put there by hand is taken over, not replaced.
	must(t, os.WriteFile(filepath.Join(l.Passwords(), "role_a"), []byte("restored from a backup"), 0o600))
	must(t, apply(d, resource.Put, want))
	if got, _ := os.ReadFile(filepath.Join(l.Passwords(), "role_a")); string(got) != "restored from a backup" {
		t.Errorf("password = %q", got)
	}
}

func TestPasswordNames(t *testing.T) {
	d, l := newDriver(t)
	for _, role := range []string{"", "..", ".owners", "a/b", "A", "a\n", strings.Repeat("a", 64)} {
		err := apply(d, resource.Put, password(l, "u1", role))
		if _, ok := errors.AsType[*resource.TerminalError](err); !ok {
			t.Errorf("%q: %v is not terminal", role, err)
		}
	}
	r := resource.New("u1", "", "role_a", resource.Password{File: "/etc/shadow"})
	if _, ok := errors.AsType[*resource.TerminalError](apply(d, resource.Put, r)); !ok {
		t.Error("a file outside of the directory was accepted")
	}
}

func TestPasswordsUnknown(t *testing.T) {
	d, l := newDriver(t)
	must(t, os.MkdirAll(l.Passwords(), 0o700))
	must(t, os.WriteFile(filepath.Join(l.Passwords(), ownersDir), nil, 0o600))
	if domain := d.Observe(t.Context())[resource.KindPassword]; domain.Err == nil {
		t.Errorf("observed %v, want Unknown", domain.Items)
	}
}

func TestDigestKey(t *testing.T) {
	l := host.Layout{State: t.TempDir()}
	a, err := LoadOrCreateKey(l)
	must(t, err)
	b, err := LoadOrCreateKey(l)
	must(t, err)
	other, err := LoadOrCreateKey(host.Layout{State: t.TempDir()})
	must(t, err)
	value := []byte("value")
	if a.Digest("n", value) != b.Digest("n", value) {
		t.Error("the key changed between two starts")
	}
	if a.Digest("n", value) == other.Digest("n", value) || a.Digest("n", value) == a.Digest("m", value) {
		t.Error("digests of another key or name are the same")
	}
	must(t, os.WriteFile(filepath.Join(l.State, "digest.key"), []byte("short"), 0o600))
	if _, err := LoadOrCreateKey(l); err == nil {
		t.Error("a damaged key was accepted")
	}
}

func TestSecrets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	d, _ := newDriver(t)
	s, err := Open(dir, d.opts.Key)
	must(t, err)
	must(t, s.Set("api-key", strings.NewReader("value\n")))
	must(t, s.Set("tls.key", strings.NewReader("other")))
	for _, name := range []string{"", ".hidden", "../x", "a/b", "A", "-x", "x-", "a..b", "a_b", strings.Repeat("a", 64)} {
		if s.Set(name, strings.NewReader("v")) == nil {
			t.Errorf("name %q was accepted", name)
		}
	}
	for reason, value := range map[string]string{"empty": "", "too long": strings.Repeat("x", maxSecret+1)} {
		if s.Set("x", strings.NewReader(value)) == nil {
			t.Errorf("a value that is %s was accepted", reason)
		}
	}
	if got, _ := os.ReadFile(s.Path("api-key")); string(got) != "value\n" {
		t.Errorf("stored %q: a value is kept byte by byte", got)
	}

	must(t, os.WriteFile(filepath.Join(dir, "open"), []byte("x"), 0o600))
	must(t, os.Chmod(filepath.Join(dir, "open"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "Upper"), []byte("x"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, ".swp"), []byte("x"), 0o600))
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
	must(t, os.Mkdir(filepath.Join(dir, "dir"), 0o700))
	must(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	got, err := s.Snapshot()
	must(t, err)
	present := map[string]bool{}
	for name := range got.Digests {
		present[name] = true
	}
	if diff := cmp.Diff(map[string]bool{"api-key": true, "tls.key": true}, present); diff != "" {
		t.Errorf("usable (-want +got):\n%s", diff)
	}
	for _, name := range []string{"open", "Upper", "empty", "link", "dir", "fifo"} {
		if got.Refused[name] == "" {
			t.Errorf("%s was not refused", name)
		}
	}
	if _, there := got.Refused[".swp"]; there {
		t.Error("a hidden file was looked at")
	}

	before := got.Digests["api-key"]
	must(t, s.Set("api-key", strings.NewReader("value 2")))
	if now, _ := s.Snapshot(); now.Digests["api-key"] == before {
		t.Error("the digest of a changed secret is the same")
	}
	must(t, s.Delete("api-key"))
	if err := s.Delete("api-key"); !errors.Is(err, ErrNotFound) {
		t.Errorf("second delete: %v, want ErrNotFound", err)
	}
	must(t, os.RemoveAll(dir))
	if _, err := s.Snapshot(); err == nil {
		t.Error("a vanished directory is not Unknown")
	}
}

func TestWatch(t *testing.T) {
	d, l := newDriver(t)
	s, err := Open(filepath.Join(t.TempDir(), "secrets"), d.opts.Key)
	must(t, err)
	must(t, os.MkdirAll(l.Passwords(), 0o700))
	watches := map[string]struct {
		watch  func(context.Context, func()) error
		change func() error
	}{
		"secrets":   {s.Watch, func() error { return s.Set("x", strings.NewReader("v")) }},
		"passwords": {d.Watch, func() error { return apply(d, resource.Put, password(l, "u1", "role_a")) }},
	}
	for name, c := range watches {
		ctx, cancel := context.WithCancel(t.Context())
		notified, done := make(chan struct{}, 100), make(chan error, 1)
		go func() { done <- c.watch(ctx, func() { notified <- struct{}{} }) }()
		for told := false; !told; { // the watch may begin after the first change
			must(t, c.change())
			select {
			case <-notified:
				told = true
			default:
				must(t, apply(d, resource.Delete, password(l, "u1", "role_a")))
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkObserveThousand(b *testing.B) {
	l := host.Layout{State: b.TempDir()}
	key, _ := LoadOrCreateKey(l)
	d, _ := New(Options{Layout: l, Installation: installation, Key: key})
	os.MkdirAll(d.owner(""), 0o700)
	for i := range 1000 {
		role := "role_" + strings.Repeat("x", i%30) + string(rune('a'+i%26)) + strings.Repeat("y", i/30)
		os.WriteFile(d.owner(role), []byte("tekton/"+installation+"/u\n"), 0o600)
		os.WriteFile(d.file(role), []byte("0123456789012345678901234567890123456789"), 0o600)
	}
	for b.Loop() {
		if n := len(d.observe().Items); n < 900 {
			b.Fatal(n)
		}
	}
}
