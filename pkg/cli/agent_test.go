package cli

import (
	"errors"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
)

// TestWithTTL: one value changes, and not a byte beside it.
func TestWithTTL(t *testing.T) {
	const head = "# mine\napiVersion: tekton.host/v1alpha1\nkind: Container\nmetadata: {name: other}\nspec: {system: {host: true}, command: [x], ttl: 8h}\n---\n" +
		"apiVersion: tekton.host/v1alpha1\nkind: Agent\nmetadata:\n  name: fix   # ü\nspec:\n  system: {host: true}\n"
	more := func(d v1alpha1.Duration) v1alpha1.Duration {
		return v1alpha1.Duration{Duration: d.Duration + time.Hour}
	}
	ref := v1alpha1.Ref{Kind: v1alpha1.KindAgent, Name: "fix"}
	for name, c := range map[string]struct{ old, want string }{
		"plain":    {"  ttl: 8h   # a day's work\n", "  ttl: 9h   # a day's work\n"},
		"quoted":   {"  ttl: \"30m\"\n", "  ttl: 1h30m\n"},
		"single":   {"  ttl: '1h'", "  ttl: 2h"},
		"in front": {"  ttl: 90s\n  user: me\n", "  ttl: 1h1m30s\n  user: me\n"},
	} {
		got, err := withTTL("f.yaml", []byte(head+c.old), ref, more)
		if err != nil || string(got) != head+c.want {
			t.Errorf("%s: %v, %q, want it to end in %q", name, err, got, c.want)
		}
	}
	flow := strings.Replace(head, "spec:\n  system: {host: true}\n", "spec: {ttl: 8h, system: {host: true}}\n", 1)
	if got, err := withTTL("f.yaml", []byte(flow), ref, more); err != nil || string(got) != strings.Replace(flow, "{ttl: 8h", "{ttl: 9h", 1) {
		t.Errorf("in a flow mapping: %v, %q", err, got)
	}
	for _, without := range []string{"", "  ttl: 0s\n"} {
		if _, err := withTTL("f.yaml", []byte(head+without), ref, more); !errors.Is(err, errStays) {
			t.Errorf("without a ttl (%q): %v", without, err)
		}
	}
	if _, err := withTTL("f.yaml", []byte(head+"  ttl: soon\n"), ref, more); err == nil || !strings.Contains(err.Error(), "f.yaml:") {
		t.Errorf("a file with a problem: %v", err)
	}
	if _, err := withTTL("f.yaml", []byte("# empty\n"), ref, more); err == nil {
		t.Error("an object that is not there is changed")
	}
}

func TestSystemOf(t *testing.T) {
	for text, want := range map[string]v1alpha1.System{
		"host": {Host: true}, "/srv/root": {RootFS: "/srv/root"}, "/nix/store/a-b": {StorePath: "/nix/store/a-b"}, "path:/srv/a#b": {Flake: "path:/srv/a#b"},
	} {
		if got := systemOf(text); got != want {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

// TestBuilt: a build that runs is waited for, and one that failed is an error,
// whatever was built before.
func TestBuilt(t *testing.T) {
	for name, c := range map[string]struct {
		running      bool
		status       v1alpha1.ConditionStatus
		reason, says string
		done         bool
	}{
		"first, runs":            {running: true, status: v1alpha1.ConditionFalse, reason: "Building"},
		"first, waits":           {status: v1alpha1.ConditionFalse, reason: "BuildQueued"},
		"first, failed":          {status: v1alpha1.ConditionFalse, reason: "BuildFailed", says: "BuildFailed: no"},
		"built":                  {status: v1alpha1.ConditionTrue, reason: "AsDesired", done: true},
		"built, another runs":    {running: true, status: v1alpha1.ConditionTrue, reason: "AsDesired"},
		"built, another failed":  {status: v1alpha1.ConditionTrue, reason: "EvaluationFailed", says: "EvaluationFailed: no"},
		"built, tries once more": {running: true, status: v1alpha1.ConditionTrue, reason: "Retrying"},
	} {
		item := v1alpha1.Item{Status: v1alpha1.Status{
			Build:      &v1alpha1.BuildStatus{Running: c.running, StorePath: "/nix/store/old"},
			Conditions: []v1alpha1.Condition{{Type: v1alpha1.ConditionBuilt, Status: c.status, Reason: c.reason, Message: "no"}},
		}}
		done, err := built(&item)
		if done != c.done || (err == nil) != (c.says == "") || err != nil && err.Error() != c.says {
			t.Errorf("%s: %v, %v", name, done, err)
		}
	}
}
