package ledger_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/ledger"
	"tekton.host/pkg/ledger/ledgertest"
	"tekton.host/pkg/resource"
)

func TestMemory(t *testing.T) {
	ledgertest.Run(t, func(*testing.T) ledger.Store { return ledger.NewMemory(ledger.Options{}) })
}

func TestFile(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T) ledger.Store { return open(t, filepath.Join(t.TempDir(), "state", "ledger.json")) })
}

func open(t testing.TB, path string) *ledger.File {
	t.Helper()
	f, err := ledger.Open(path, ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func put(t testing.TB, s ledger.Store, key, owner, value string) {
	t.Helper()
	op := ledger.Claim(resource.Claim{Key: key, Owner: owner, Value: json.RawMessage(value)})
	if err := s.Commit(t.Context(), []ledger.Op{op})[0]; err != nil {
		t.Fatal(err)
	}
}

func list(t testing.TB, s ledger.Store) ([]resource.Claim, int64) {
	t.Helper()
	claims, revision, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return claims, revision
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestFileSurvivesReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.json")
	f := open(t, path)
	put(t, f, "slot/1", "a", `{"html":"<b>&","n":1.50}`)
	put(t, f, "uid/web", "a", ``)
	want, revision := list(t, f)
	got, again := list(t, open(t, path))
	if diff := cmp.Diff(want, got); diff != "" || revision != again {
		t.Errorf("revision %d then %d, claims (-want +got):\n%s", revision, again, diff)
	}
	if n := strings.Count(read(t, path), "\n"); n != 4 {
		t.Errorf("%d lines, want the head, two claims and the end:\n%s", n, read(t, path))
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
}

func TestPreviousVersionIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.json")
	f := open(t, path)
	put(t, f, "k", "a", "")
	if _, err := os.Lstat(path + ".1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a previous version before the second commit: %v", err)
	}
	for i := range 3 {
		before := read(t, path)
		put(t, f, fmt.Sprintf("k%d", i), "a", "")
		if diff := cmp.Diff(before, read(t, path+".1")); diff != "" {
			t.Errorf("previous version (-want +got):\n%s", diff)
		}
	}
	put(t, f, "k", "a", "") // changes nothing, so writes nothing
	if strings.Contains(read(t, path+".1"), "k2") {
		t.Error("a commit without a change replaced the previous version")
	}
}

func TestCorruptLedgerIsRefused(t *testing.T) {
	head := `{"version":1,"revision":2,"claims":[`
	tests := map[string]struct{ content, want string }{
		"empty":          {"", "it is empty"},
		"zeros":          {strings.Repeat("\x00", 100), "invalid character"},
		"cut off":        {head + `{"key":"a","owner":"x"`, "unexpected EOF"},
		"appended":       {head + `]}{}`, "something follows its end"},
		"unknown field":  {`{"version":1,"revision":2,"claims":[],"more":1}`, "more"},
		"later version":  {`{"version":2,"revision":2,"entries":{}}`, "a later tekton"},
		"no version":     {`{}`, "version 0"},
		"key twice":      {head + `{"key":"a","owner":"x","revision":1},{"key":"a","owner":"y","revision":2}]}`, "twice"},
		"revision ahead": {head + `{"key":"a","owner":"x","revision":3}]}`, "revision 3"},
		"no owner":       {head + `{"key":"a","revision":1}]}`, "no owner"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "ledger.json")
			f := open(t, path)
			put(t, f, "k", "a", "")
			put(t, f, "l", "a", "")
			if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 { // a restart loop makes one copy
				_, err := ledger.Open(path, ledger.Options{})
				if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "cp "+path+".1 "+path) {
					t.Fatalf("error = %v, want %q and how to restore", err, tc.want)
				}
			}
			if got := read(t, path); got != tc.content {
				t.Errorf("the file was changed to %q", got)
			}
			copies, _ := filepath.Glob(path + ".corrupt-*")
			if len(copies) != 1 || read(t, copies[0]) != tc.content {
				t.Errorf("copies: %v, want one", copies)
			}
			// What the error says works.
			if err := os.WriteFile(path, []byte(read(t, path+".1")), 0o600); err != nil {
				t.Fatal(err)
			}
			if claims, _ := list(t, open(t, path)); len(claims) != 1 || claims[0].Key != "k" {
				t.Errorf("restored %v, want the claims before the last change", claims)
			}
		})
	}
}

func TestLostLedgerIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.json")
	f := open(t, path)
	put(t, f, "k", "a", "")
	put(t, f, "l", "a", "")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Open(path, ledger.Options{}); err == nil || !strings.Contains(err.Error(), "1 claims") {
		t.Errorf("error = %v, want a refusal that names the previous version", err)
	}
}

// TestFailedWriteChangesNothing: what is not durable is not claimed.
func TestFailedWriteChangesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	path := filepath.Join(dir, "ledger.json")
	f := open(t, path)
	put(t, f, "k", "a", "")
	want, revision := list(t, f)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	errs := f.Commit(t.Context(), []ledger.Op{
		ledger.Claim(resource.Claim{Key: "l", Owner: "a"}), ledger.Claim(resource.Claim{Key: "k", Owner: "b"}), ledger.Release(want[0]),
	})
	for i, reason := range []string{ledger.ReasonLedgerWrite, ledger.ReasonClaimed, ledger.ReasonLedgerWrite} {
		if got := resource.Reason(errs[i], ""); got != reason {
			t.Errorf("operation %d: %v, want reason %s", i, errs[i], reason)
		}
	}
	got, after := list(t, f)
	if diff := cmp.Diff(want, got); diff != "" || after != revision {
		t.Errorf("revision %d then %d, claims (-want +got):\n%s", revision, after, diff)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	put(t, f, "l", "a", "")
	if claims, _ := list(t, open(t, path)); len(claims) != 2 {
		t.Errorf("%d claims after the disk is back, want 2", len(claims))
	}
}

func TestDriver(t *testing.T) {
	d := ledger.NewDriver(ledger.NewMemory(ledger.Options{}))
	want := func(key, owner, value string) resource.Resource {
		return resource.New(owner, "", key, resource.Claim{Key: key, Owner: owner, Value: json.RawMessage(value)})
	}
	get := func(key string) *resource.Resource {
		t.Helper()
		o := resource.Observed(d.Observe(t.Context()))
		r, present, known := o.Get(resource.ID{Kind: resource.KindClaim, Name: key})
		if !known {
			t.Fatal("claims are unknown")
		}
		if !present {
			return nil
		}
		return &r
	}
	apply := func(steps ...resource.Step) []string {
		var reasons []string
		for _, err := range d.Apply(t.Context(), steps) {
			switch {
			case err == nil:
				reasons = append(reasons, "")
			case errors.Is(err, resource.ErrStale):
				reasons = append(reasons, "stale")
			default:
				reasons = append(reasons, resource.Reason(err, err.Error()))
			}
		}
		return reasons
	}
	check := func(what string, want, got []string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	one, two := want("slot/1", "a", `1`), want("slot/2", "b", `2`)
	wrong := one
	wrong.Name = "slot/9"
	check("first", []string{"", "InvalidClaim", ""}, apply(
		resource.Step{Verb: resource.Put, Resource: one}, resource.Step{Verb: resource.Put, Resource: wrong}, resource.Step{Verb: resource.Put, Resource: two}))
	seen := get("slot/1")
	if seen == nil || !seen.Equal(one) {
		t.Fatalf("observed %v, want what was put: the next plan would not be empty", seen)
	}
	check("change", []string{""}, apply(resource.Step{Verb: resource.Put, Resource: want("slot/1", "a", `5`), Seen: seen}))
	check("change on an old view", []string{"stale"}, apply(resource.Step{Verb: resource.Put, Resource: want("slot/1", "a", `6`), Seen: seen}))
	check("release on an old view", []string{"stale"}, apply(resource.Step{Verb: resource.Delete, Resource: *seen, Seen: seen}))
	check("another owner", []string{"Claimed"}, apply(resource.Step{Verb: resource.Put, Resource: want("slot/1", "b", `5`), Seen: get("slot/1")}))
	check("release", []string{""}, apply(resource.Step{Verb: resource.Delete, Resource: *get("slot/1"), Seen: get("slot/1")}))
	if r := get("slot/1"); r != nil {
		t.Errorf("observed %v after its release", r)
	}
}

func benchmarkStore(b *testing.B, n int) *ledger.File {
	f := open(b, filepath.Join(b.TempDir(), "ledger.json"))
	var ops []ledger.Op
	for i := range n {
		ops = append(ops, ledger.Claim(resource.Claim{Key: fmt.Sprintf("slot/%d", i), Owner: "0123456789ab", Value: json.RawMessage(`{"kind":"Container","name":"web"}`)}))
	}
	f.Commit(b.Context(), ops)
	return f
}

func BenchmarkList10000(b *testing.B) {
	f := benchmarkStore(b, 10000)
	for b.Loop() {
		list(b, f)
	}
}

func BenchmarkObserve1000(b *testing.B) {
	d := ledger.NewDriver(benchmarkStore(b, 1000))
	for b.Loop() {
		d.Observe(b.Context())
	}
}

func BenchmarkCommit1000(b *testing.B) {
	f := benchmarkStore(b, 1000)
	i := 0
	for b.Loop() {
		i++
		put(b, f, fmt.Sprintf("k%d", i), "a", "")
	}
}
