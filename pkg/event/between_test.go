package event_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/event"
)

// object is web with a phase, and a condition "Type=Status:Reason" each.
func object(phase v1alpha1.Phase, conditions ...string) v1alpha1.Item {
	i := v1alpha1.Item{TypeMeta: v1alpha1.TypeMeta{Kind: "Container"}}
	i.Metadata = v1alpha1.ItemMeta{Name: "web", UID: "u1", Generation: 1, Source: v1alpha1.SourcePosition{Name: "local", File: "web.yaml", Line: 1}}
	i.Status = v1alpha1.Status{Phase: phase, Machine: "web-1", URLs: []string{"http://web/"}}
	for _, c := range conditions {
		typ, rest, _ := strings.Cut(c, "=")
		status, reason, _ := strings.Cut(rest, ":")
		i.Status.Conditions = append(i.Status.Conditions, v1alpha1.Condition{Type: typ, Status: v1alpha1.ConditionStatus(status), Reason: reason, Message: "because"})
	}
	return i
}

func with(i v1alpha1.Item, change func(*v1alpha1.Item)) []v1alpha1.Item {
	change(&i)
	return []v1alpha1.Item{i}
}

func TestBetween(t *testing.T) {
	starting := []v1alpha1.Item{object("Starting", "Started=False:NotStarted", "Ready=False:NotStarted")}
	ready := []v1alpha1.Item{object("Ready", "Started=True:AsDesired", "Ready=True:Ready")}
	missing := []v1alpha1.Item{object("Failed", "SecretsReady=False:SecretMissing", "Ready=False:SecretMissing")}
	stale := []v1alpha1.Item{object("Ready", "Fetched=True:RefNotFound", "Ready=True:Ready")}
	setUp := func(done string) []v1alpha1.Item {
		return with(ready[0], func(i *v1alpha1.Item) { i.Status.Setup = &v1alpha1.SetupStatus{Revision: "b", Done: done} })
	}
	retrying := []v1alpha1.Item{object("Ready", "Fetched=True:Retrying", "Ready=True:Ready")}
	for name, tc := range map[string]struct {
		old, next []v1alpha1.Item
		want      []string
	}{
		"nothing":            {ready, ready, nil},
		"new":                {nil, starting, []string{"Normal Created () by local web.yaml:1"}},
		"answers":            {starting, ready, []string{"Normal Ready (http://web/)"}},
		"a cause, once":      {starting, missing, []string{"Warning SecretMissing (because)"}},
		"still the cause":    {missing, missing, nil},
		"all is well again":  {missing, ready, []string{"Normal Ready (http://web/)"}},
		"under way again":    {ready, starting, []string{"Normal NotReady (because)"}},
		"asleep":             {ready, []v1alpha1.Item{object("Asleep", "Started=False:Asleep", "Answered=False:Asleep", "Ready=True:Asleep")}, []string{"Normal Asleep (because)"}},
		"woken":              {[]v1alpha1.Item{object("Asleep", "Started=False:Asleep", "Ready=True:Asleep")}, starting, []string{"Normal Woken (it is started again)"}},
		"gone":               {ready, nil, []string{"Normal Deleted (nothing of it is left but what its policies keep)"}},
		"switched off":       {ready, []v1alpha1.Item{object("Disabled", "Ready=False:Disabled")}, []string{"Normal Disabled (because)"}},
		"deleted":            {ready, []v1alpha1.Item{object("Deleting", "Ready=False:Deleting")}, []string{"Normal Deleting (because)"}},
		"deleting is no end": {[]v1alpha1.Item{object("Deleting", "Ready=False:Deleting")}, []v1alpha1.Item{object("Deleting", "Ready=False:StopFailed")}, nil},
		"rolled back": {ready, []v1alpha1.Item{object("Degraded", "Ready=True:Ready", "RolledBack=True:ProbeFailed")},
			[]string{"Warning ProbeFailed (because)"}},
		"an update is under way": {ready, []v1alpha1.Item{object("Degraded", "Fetched=False:Fetching", "Built=False:BuildQueued", "SetUp=False:SettingUp", "Ready=True:Ready")},
			[]string{"Normal Fetching (because)", "Normal BuildQueued (because)", "Normal SettingUp (because)"}},
		"is being built":     {ready, []v1alpha1.Item{object("Building", "Ready=False:Building")}, []string{"Normal Building (because)"}},
		"stale":              {ready, stale, []string{"Warning RefNotFound (because)"}},
		"stale, once":        {stale, retrying, nil},
		"stale still":        {retrying, stale, nil},
		"stale no more":      {retrying, ready, nil},
		"certificate is due": {ready, []v1alpha1.Item{object("Ready", "RouteReady=True:CertificateExpires", "Ready=True:Ready")}, []string{"Warning CertificateExpires (because)"}},
		"set up":             {setUp(""), setUp("b"), []string{"Normal SetUp (commit b)"}},
		"another commit":     {setUp("a"), setUp("b"), []string{"Normal SetUp (commit b in place of a)"}},
		"the same commit":    {setUp("b"), setUp("b"), nil},
		"held":               {ready, []v1alpha1.Item{object("Ready", "Ready=True:Ready", "Held=True:LastGoodStays")}, []string{"Warning LastGoodStays (because)"}},
		"rejected":           {nil, []v1alpha1.Item{object("Rejected", "SpecValid=False:UnknownField")}, []string{"Warning UnknownField (because)"}},
		"changed and replaced": {ready, with(ready[0], func(i *v1alpha1.Item) { i.Metadata.Generation, i.Status.Machine = 2, "web-2" }),
			[]string{"Normal Changed (generation 2) by local web.yaml:1", "Normal Replaced (web-2 serves in place of web-1)"}},
		"ended": {ready, with(ready[0], func(i *v1alpha1.Item) { i.Status.Restarts = 2 }), []string{"Warning Restarted (web-1 has ended by itself 2 times in a row)"}},
		"another of its name": {ready, with(starting[0], func(i *v1alpha1.Item) { i.Metadata.UID = "u2" }),
			[]string{"Normal Created () by local web.yaml:1", "Normal Deleted (nothing of it is left but what its policies keep)"}},
	} {
		got := event.Between(event.Snapshot{Items: tc.old}, event.Snapshot{Items: tc.next}, time.Unix(1, 0))
		if diff := cmp.Diff(tc.want, texts(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestBetweenSources(t *testing.T) {
	well := v1alpha1.SourceStatus{Name: "local", Complete: true}
	unread := v1alpha1.SourceStatus{Name: "local", Message: "specs: permission denied"}
	held := v1alpha1.SourceStatus{Name: "local", Complete: true, Held: []v1alpha1.Ref{{Name: "a"}, {Name: "b"}}, Message: "more than 30 %"}
	git := func(commit, rejected, err string) []v1alpha1.SourceStatus {
		return []v1alpha1.SourceStatus{{Name: "fleet", Complete: true, Git: &v1alpha1.GitStatus{Branch: "main", Commit: commit, Rejected: rejected, Error: err}}}
	}
	for name, tc := range map[string]struct {
		old, next []v1alpha1.SourceStatus
		want      []string
	}{
		"first look":      {nil, []v1alpha1.SourceStatus{well}, nil},
		"unreadable":      {[]v1alpha1.SourceStatus{well}, []v1alpha1.SourceStatus{unread}, []string{"Warning Incomplete (specs: permission denied)"}},
		"back":            {[]v1alpha1.SourceStatus{unread}, []v1alpha1.SourceStatus{well}, []string{"Normal Complete (read whole again)"}},
		"held":            {[]v1alpha1.SourceStatus{well}, []v1alpha1.SourceStatus{held}, []string{"Warning DeletesHeld (2 deletions wait: more than 30 %)"}},
		"held still":      {[]v1alpha1.SourceStatus{held}, []v1alpha1.SourceStatus{held}, nil},
		"commit":          {git("a", "", ""), git("b", "", ""), []string{"Normal CommitInEffect (commit b of main)"}},
		"first commit":    {[]v1alpha1.SourceStatus{{Name: "fleet", Complete: true}}, git("a", "", ""), []string{"Normal CommitInEffect (commit a of main)"}},
		"bad commit":      {git("a", "", ""), git("a", "b", "a.yaml:1:1: bad"), []string{"Warning CommitRejected (a.yaml:1:1: bad)"}},
		"the same commit": {git("a", "b", "bad"), git("a", "b", "and the remote is gone"), nil},
		"unreachable":     {git("a", "", ""), git("a", "", "no route to host"), []string{"Warning Failing (no route to host)"}},
		"still so":        {git("a", "", "no route to host"), git("a", "", "timeout"), nil},
		"reached":         {git("a", "", "timeout"), git("a", "", ""), []string{"Normal Recovered (what branch main has is in effect again)"}},
		"reached, bad":    {git("a", "", "timeout"), git("a", "b", "bad"), []string{"Warning CommitRejected (bad)"}},
		"mended":          {git("a", "b", "bad"), git("c", "", ""), []string{"Normal CommitInEffect (commit c of main)"}},
		"released":        {[]v1alpha1.SourceStatus{held}, []v1alpha1.SourceStatus{well}, []string{"Normal DeletesReleased (no deletion waits any more)"}},
	} {
		got := event.Between(event.Snapshot{Sources: tc.old}, event.Snapshot{Sources: tc.next}, time.Unix(1, 0))
		if diff := cmp.Diff(tc.want, texts(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func texts(events []v1alpha1.Event) (all []string) {
	for _, e := range events {
		text := fmt.Sprintf("%s %s (%s)", e.Type, e.Reason, e.Message)
		if e.By != "" {
			text += " by " + e.By
		}
		all = append(all, text)
	}
	return all
}
