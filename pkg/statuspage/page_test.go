package statuspage

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/server/servertest"
	"tekton.host/pkg/server/wire"
	"tekton.host/pkg/spec"
)

// allPages are those that can be read without signing in.
var allPages = []string{"/", "/?q=shop&only=well", "/objects/Container/shop", "/objects/Container/billing", "/objects/Container/none", "/events", "/events?only=warnings", "/plan", "/picture", "/sources", "/login", "/nothing"}

// TestWhatIsNotWell: the first page says what is not well, why, and what helps.
func TestWhatIsNotWell(t *testing.T) {
	r := newRig(t, populated(time.Now()))
	status, body := r.get("/")
	page := text(t, body)
	for _, want := range []string{
		"3 things need a look", "7 objects",
		"container/billing ▲ Failed ProbeFailed: GET /healthz on port 9000 was answered with 502 since 7m Next see what it says: tekton logs container/billing; tekton tries again by itself in",
		"container/mailer ▲ Pending SecretMissing: secret smtp-password does not exist since 3h Next set the secret that is missing: tekton secret set NAME < FILE",
		`/etc/tekton/specs/cron.yaml:9:3 ▲ Not taken UnknownField: spec.resources: unknown field "memory"`,
		"preview/shop-214 ◐ Building Building 31/58 node-modules",
		"10.100.0.4", "https://www.example.org/",
	} {
		if status != http.StatusOK || !strings.Contains(page, want) {
			t.Errorf("%d, nothing says %q in\n%s", status, want, page)
		}
	}
	if !strings.Contains(body, "<code>tekton logs container/billing</code>;") {
		t.Error("the command is not marked as one")
	}
	if _, body := r.get("/?only=well&q=SHOP"); strings.Count(body, `id="row-`) != 1 || !strings.Contains(body, `id="row-Container-shop"`) {
		t.Errorf("the filter shows %d rows", strings.Count(body, `id="row-`))
	}
}

// TestNothingToSay: a host without objects, and one where all is well, are told as that.
func TestNothingToSay(t *testing.T) {
	r := newRig(t, servertest.State{})
	if _, body := r.get("/"); !strings.Contains(body, "<h1>There are no objects yet</h1>") {
		t.Error(body)
	}
	state := populated(time.Now())
	item := state.Items[4]
	r.backend.Update(func(s *servertest.State) { s.Items = []v1alpha1.Item{item} })
	r.eventually("all is well", func() bool {
		_, body := r.get("/")
		return strings.Contains(body, "<h1>All is well</h1>")
	})
}

// TestStructure: every page can be walked through without seeing it: one main part,
// one first heading, landmarks with names, tables with captions and headings, inputs
// with labels, no two equal ids; and there is nothing inline to run or to look like.
func TestStructure(t *testing.T) {
	r := newRig(t, populated(time.Now()))
	r.signIn()
	for _, path := range append([]string{"/objects/Container/shop/logs"}, allPages...) {
		_, body := r.get(path)
		for _, wrong := range structure(parse(t, body)) {
			t.Errorf("%s: %s", path, wrong)
		}
	}
}

// hostileText breaks out of whatever is not escaped as its place needs it.
const hostileText = `'"></title></script></style><script>alert(1)</script><img src=x onerror=alert(1)> javascript:alert(1) {{.}} &lt;` + "\x1b[31m\u202eevil\x00"

// TestHostile: what specs, machines, files and logs say stays text wherever it appears.
func TestHostile(t *testing.T) {
	h := hostileText
	item := v1alpha1.Item{TypeMeta: v1alpha1.TypeMeta{Kind: "Container"}}
	item.Metadata = v1alpha1.ItemMeta{Name: "shop", UID: "u", Source: v1alpha1.SourcePosition{Name: h, File: h, Line: 1}}
	item.Spec = map[string]any{
		"databases": []any{map[string]any{"name": h}}, "volumes": []any{map[string]any{"name": h}},
		"network": map[string]any{"links": []any{map[string]any{"to": h, "port": 1}}, "ports": []any{map[string]any{"hostIP": h, "protocol": h, "hostPort": 1}}},
	}
	item.Status = v1alpha1.Status{
		Phase: v1alpha1.PhaseFailed, URLs: []string{"javascript:alert(1)", "http://" + h, "http://a.test/" + h}, Address: h, Machine: h,
		Conditions: []v1alpha1.Condition{{Type: h, Status: v1alpha1.ConditionFalse, Reason: h, Message: h}},
		Build:      &v1alpha1.BuildStatus{Locked: h, Log: []string{h}}, Setup: &v1alpha1.SetupStatus{Done: h, Log: []string{h}},
		Certificates: []v1alpha1.CertificateStatus{{Host: h, Message: h}}, SSH: &v1alpha1.SSHStatus{User: h},
	}
	r := newRig(t, servertest.State{
		Items:    []v1alpha1.Item{item},
		Events:   []v1alpha1.Event{{Seq: 1, UID: "u", Object: item.Ref(), Reason: h, Message: h, By: h}, {Seq: 2, Object: v1alpha1.Ref{Kind: h, Name: h}}},
		Problems: []spec.Problem{{Position: spec.Position{File: h}, Field: h, Reason: h, Message: h, Kind: h, Name: h}},
		Sources: []v1alpha1.SourceStatus{
			{Name: h, Path: h, Message: h, Held: []v1alpha1.Ref{{Kind: h, Name: h}}, Unsettled: []string{h}, Git: &v1alpha1.GitStatus{URL: h, Branch: h, Commit: h, Error: h}},
			{Name: "b", Git: &v1alpha1.GitStatus{Error: h}},
		},
		Plan: v1alpha1.PlanReport{Warnings: []string{h}, Objects: []v1alpha1.PlanObject{{
			Kind: h, Name: h, Action: v1alpha1.PlanAction(h), Class: v1alpha1.PlanClass(h), Strategy: h, Fields: []v1alpha1.PlanField{{Path: h, Old: []byte(`"<script>alert(1)</script>"`)}},
			Data: []v1alpha1.PlanData{{What: v1alpha1.DataKind(h), Name: h}}, Steps: []string{h}, Warnings: []string{h},
		}}},
		Logs: map[string]string{"container/shop": h + "\n"}, Version: v1alpha1.VersionInfo{Version: h},
		Errors: map[string]*wire.Error{"Restart": {Code: wire.Conflict, Message: h, Next: h}},
	})
	word := r.signIn()
	_, failed := r.post("/objects/Container/shop/restart", map[string][]string{"csrf": {word}})
	bodies := map[string]string{"a failed action": failed}
	for _, path := range append([]string{"/objects/Container/shop/logs", "/?q=" + "%22%3E%3Cscript%3Ealert(1)%3C/script%3E&only=%22%3E%3Cscript%3E", "/objects/%22%3E%3Cscript%3E/x", "/?done=%3Cscript%3E"}, allPages...) {
		_, bodies[path] = r.get(path)
	}
	said := 0
	for path, body := range bodies {
		doc := parse(t, body)
		for _, wrong := range structure(doc) {
			t.Errorf("%s: %s", path, wrong)
		}
		if strings.ContainsAny(body, "\x00\x1b\u202e") {
			t.Errorf("%s: what hides or reorders text is in it", path)
		}
		said += strings.Count(text(t, body), "<script>alert(1)</script>")
		each(doc, func(n *html.Node) {
			if n.Data == "img" || n.Data == "script" && attr(n, "src") != "/assets/page.js" {
				t.Errorf("%s: <%s> got in", path, n.Data)
			}
			for _, a := range n.Attr {
				if strings.HasPrefix(a.Key, "on") || strings.HasPrefix(strings.ToLower(strings.TrimSpace(a.Val)), "javascript:") {
					t.Errorf("%s: <%s %s=%q>", path, n.Data, a.Key, a.Val)
				}
			}
		})
	}
	if said < 50 {
		t.Errorf("only %d hostile texts were shown", said)
	}
}

// TestPictureSaysWhatTheTableSays: the drawing has a box for each thing of the
// table and a line for each connection.
func TestPicture(t *testing.T) {
	p := pictureOf(populated(time.Now()).Items, "host")
	boxes, lines := map[string]int{}, map[string]int{}
	for _, b := range p.Boxes {
		boxes[strings.Fields(b.Class)[0]]++
		if b.X < 0 || b.Y < 0 || b.X+b.W > p.Width || b.Y+b.H > p.Height {
			t.Errorf("box %q is outside of the picture", b.Title)
		}
	}
	for _, l := range p.Lines {
		lines[strings.Fields(l.Class)[0]]++
	}
	for class, n := range map[string]int{"host": 1, "machine": 7, "route": 4, "port": 1, "database": 3, "volume": 3} {
		if boxes[class] != n {
			t.Errorf("%d boxes of class %s, expected %d", boxes[class], class, n)
		}
	}
	for class, n := range map[string]int{"in": 5, "to": 5, "has": 6, "link": 2} {
		if lines[class] != n {
			t.Errorf("%d lines of class %s, expected %d", lines[class], class, n)
		}
	}
	for i, a := range p.Boxes {
		for _, b := range p.Boxes[i+1:] {
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("boxes %q and %q overlap", a.Title, b.Title)
			}
		}
	}
}

// TestCommands: what can be typed is told from words.
func TestCommands(t *testing.T) {
	for sentence, want := range map[string]string{
		"see what it says: tekton logs container/web; tekton tries again by itself in 40s":                              "tekton logs container/web",
		"see what it says: tekton logs container/web --build":                                                           "tekton logs container/web --build",
		"correct /a/b.yaml:7; tekton validate /a/b.yaml checks it offline":                                              "tekton validate /a/b.yaml",
		"none needed; tekton wait --for=delete container/web waits for its end":                                         "tekton wait --for=delete container/web",
		"bring its file back, or let the deletion happen: tekton release-deletes local.":                                "tekton release-deletes local",
		"the previous instance serves; see why the new one did not: tekton logs web --previous, then correct /a.yaml:1": "tekton logs web --previous",
		"decide whose data it is: tekton data list":                                                                     "tekton data list",
		"tekton source resume team":         "tekton source resume team",
		"set spec.enabled: true in /a.yaml": "",
	} {
		got, whole := "", ""
		for _, p := range parts(sentence) {
			if whole += p.Text; p.Command {
				got += p.Text
			}
		}
		if got != want || whole != sentence {
			t.Errorf("%q: %q of %q", sentence, got, whole)
		}
	}
}

// TestDaemonGone: what was known is still shown, as old, with what helps; and who
// asks whether all is well is told that it is not known.
func TestDaemonGone(t *testing.T) {
	r := newRig(t, populated(time.Now()))
	if status, _ := r.get("/healthz"); status != http.StatusOK {
		t.Errorf("healthy: %d", status)
	}
	r.stopDaemon()
	r.eventually("it is told that nothing is known", func() bool {
		status, _ := r.get("/healthz")
		return status == http.StatusServiceUnavailable
	})
	_, body := r.get("/")
	page := text(t, body)
	for _, want := range []string{"The daemon is not heard for ", "; what is shown is as it was then.", "reach the daemon on ", "Is tektond running", "container/billing"} {
		if !strings.Contains(page, want) {
			t.Errorf("nothing says %q in\n%s", want, page)
		}
	}
	_, changed := r.server.mirror.View()
	r.eventually("the reason is that of the next tries", func() bool {
		v, now := r.server.mirror.View()
		if now == changed && strings.Contains(v.Err.Error(), "there is no socket") {
			return true
		}
		changed = now
		return false
	})
	select {
	case <-changed:
		t.Error("another try that failed is news")
	case <-time.After(2*askAgain + askAgain/2):
	}
	if status, body := r.get("/plan"); status != http.StatusBadGateway || !strings.Contains(body, "Is tektond running") {
		t.Errorf("the plan: %d %s", status, body)
	}
	r.backend.Update(func(s *servertest.State) { s.Items = s.Items[:1] })
	r.startDaemon()
	r.eventually("the daemon is heard again", func() bool {
		_, body := r.get("/")
		return !strings.Contains(body, "not heard") && !strings.Contains(body, "row-Container-billing")
	})
}

// TestStale: what is Ready by an old commit needs a look.
func TestStale(t *testing.T) {
	item := v1alpha1.Item{TypeMeta: v1alpha1.TypeMeta{Kind: "Preview"}, Metadata: v1alpha1.ItemMeta{Name: "shop", UID: "u"}}
	item.Status = v1alpha1.Status{Phase: v1alpha1.PhaseReady, Conditions: []v1alpha1.Condition{
		{Type: v1alpha1.ConditionReady, Status: v1alpha1.ConditionTrue, Reason: "Ready"},
		{Type: v1alpha1.ConditionFetched, Status: v1alpha1.ConditionTrue, Reason: "AsDesired"},
	}}
	if o := overviewOf(View{Items: []v1alpha1.Item{item}}, "", "", time.Now()); o.Headline() != "All is well" {
		t.Errorf("of what is as desired: %q", o.Headline())
	}
	item.Status.Conditions[1].Reason, item.Status.Conditions[1].Message = "RefNotFound", "commit 4c stays"
	o := overviewOf(View{Items: []v1alpha1.Item{item}}, "", "", time.Now())
	if len(o.Troubles) != 1 || o.Troubles[0].Reason != "RefNotFound" || o.Troubles[0].Text != "commit 4c stays" || o.Rows[0].Reason != "RefNotFound" {
		t.Errorf("of what is stale: %q, %+v", o.Headline(), o.Troubles)
	}
}
