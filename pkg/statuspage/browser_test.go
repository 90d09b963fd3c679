package statuspage

import (
	_ "embed"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/server/servertest"
)

var screenshots = flag.String("screenshots", "", "directory that TestScreenshots writes to")

// look is what the tests see of a page in a browser.
//
//go:embed testdata/look.js
var look string

// signIn as a person does.
func (p *tab) signIn() {
	p.t.Helper()
	p.open("/login")
	p.tabTo("#token")
	p.press(testToken, false)
	p.await("signed in", p.loading(func() { p.press("Enter", false) }))
	if !eval[bool](p, `document.body.textContent.includes('Sign out')`) {
		p.t.Fatal("signing in led to " + eval[string](p, "document.body.innerText"))
	}
}

// TestBrowser shows every page, in light and dark, wide and narrow: nothing is asked
// for elsewhere, nothing is wrong, all text can be read, all controls have names and
// are reached by the keyboard, where one sees the focus.
func TestBrowser(t *testing.T) {
	r := newRig(t, populated(time.Now()))
	p := newChromium(t).newTab(t, r.url)
	p.signIn()
	for _, dark := range []bool{false, true} {
		p.scheme(dark)
		for _, path := range append([]string{"/objects/Container/shop/logs"}, allPages...) {
			p.open(path)
			where := fmt.Sprintf("%s (dark: %v)", path, dark)
			for _, wrong := range eval[[]string](p, look+"; contrasts()") {
				t.Errorf("%s: %s", where, wrong)
			}
			if isDark := eval[bool](p, look+"; luminance(color(getComputedStyle(document.documentElement).backgroundColor)) < 0.2"); isDark != dark {
				t.Errorf("%s: the page is dark: %v", where, isDark)
			}
			if dark {
				continue // the rest has no colour
			}
			p.size(320, 600)
			if wide := eval[int](p, "document.documentElement.scrollWidth"); wide > 320 {
				t.Errorf("%s: a narrow window has to be scrolled sideways, %d", where, wide)
			}
			p.size(1180, 900)
			p.names(where)
			p.focusWalk(where)
		}
	}
	// Pages that are not there are answered with 404, and a browser says so.
	p.clean("404 (Not Found)")
}

// names reports controls and landmarks that have none, by the tree that a screen
// reader is given.
func (p *tab) names(where string) {
	p.t.Helper()
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name struct{ Value any }
		}
	}
	p.call("Accessibility.getFullAXTree", nil, &tree)
	roles := map[string]int{}
	for _, n := range tree.Nodes {
		role, _ := n.Role.Value.(string)
		if n.Ignored {
			continue
		}
		roles[role]++
		name, _ := n.Name.Value.(string)
		if needs := []string{"link", "button", "textbox", "searchbox", "spinbutton", "DisclosureTriangle", "navigation", "region", "table", "image", "log"}; slices.Contains(needs, role) && strings.TrimSpace(name) == "" {
			p.t.Errorf("%s: a %s has no name", where, role)
		}
	}
	for _, role := range []string{"main", "navigation", "banner", "contentinfo", "heading"} {
		if roles[role] == 0 {
			p.t.Errorf("%s: there is no %s", where, role)
		}
	}
}

// focusWalk goes through the page by Tab: everything that can be used is reached, in
// the order of the page, and the focus is seen.
func (p *tab) focusWalk(where string) {
	p.t.Helper()
	want := eval[[]string](p, look+"; focusable().map(describe)")
	eval[bool](p, "document.activeElement.blur(), true")
	var got []string
	for range want {
		p.press("Tab", false)
		one := eval[string](p, look+"; describe(document.activeElement)")
		got = append(got, one)
		if !eval[bool](p, look+"; focusSeen(document.activeElement)") {
			p.t.Errorf("%s: the focus on %s cannot be seen", where, one)
		}
	}
	if !slices.Equal(got, want) {
		p.t.Errorf("%s: the keyboard reaches\n%q, of\n%q", where, got, want)
	}
}

// TestBrowserWithoutScript: everything can be read and used with scripts switched off.
func TestBrowserWithoutScript(t *testing.T) {
	r := newRig(t, populated(time.Now()))
	p := newChromium(t).newTab(t, r.url)
	p.call("Emulation.setScriptExecutionDisabled", params{"value": true}, nil)
	r.signIn() // what is compared with
	p.signIn()
	for _, path := range append([]string{"/objects/Container/shop/logs"}, allPages...) {
		p.open(path)
		_, body := r.get(path)
		shown := strings.Join(strings.Fields(eval[string](p, "document.getElementById('main').textContent")), " ")
		if want := text(t, body); ageless(shown) != ageless(want) {
			t.Errorf("%s shows\n%s\nand not\n%s", path, shown, want)
		}
	}
	p.open("/")
	if !eval[bool](p, "document.getElementById('live').innerText.includes('reload')") {
		t.Error("nothing says that the page has to be reloaded")
	}
	p.tabTo("#q")
	p.press("queue", false)
	p.await("filtered", p.loading(func() { p.press("Enter", false) }))
	if rows := eval[int](p, `document.querySelectorAll('[id^="row-"]').length`); rows != 1 {
		t.Errorf("the filter shows %d rows", rows)
	}
	p.restartByKeyboard(r)
	p.clean("404 (Not Found)")
}

var age = regexp.MustCompile(`[0-9]+s`)

// ageless is a text without the seconds that may have passed.
func ageless(text string) string { return age.ReplaceAllString(text, "Ns") }

// restartByKeyboard goes from the first page to a restart.
func (p *tab) restartByKeyboard(r *rig) {
	p.t.Helper()
	p.open("/")
	p.tabTo("a.skip")
	p.press("Enter", false)
	p.tabTo(`a[href="/objects/Container/shop"]`)
	p.await("the object's page", p.loading(func() { p.press("Enter", false) }))
	p.tabTo("summary")
	if eval[bool](p, "document.querySelector('#act button').checkVisibility()") {
		p.t.Error("the button is there before it was asked for")
	}
	p.press("Enter", false)
	p.tabTo("#act button")
	p.await("restarted", p.loading(func() { p.press(" ", false) }))
	if !slices.Contains(r.backend.Calls(), "Restart container/shop") || !eval[bool](p, "document.getElementById('done').innerText.includes('another start')") {
		p.t.Errorf("the daemon was told %q", r.backend.Calls())
	}
}

// TestBrowserLive: what changes is shown without a reload, is announced, and moves
// neither the focus nor what was opened.
func TestBrowserLive(t *testing.T) {
	r := newRig(t, populated(time.Now()))
	p := newChromium(t).newTab(t, r.url)
	p.signIn()
	p.restartByKeyboard(r)
	live := func() bool { return eval[string](p, "document.getElementById('live').innerText") == "live" }
	p.await("live", live)
	p.tabTo("summary")
	p.press("Enter", false)
	r.backend.Update(func(s *servertest.State) {
		item := s.Items[4]
		item.Status.Phase = v1alpha1.PhaseDegraded
		s.Items = append(slices.Clone(s.Items[:4]), append([]v1alpha1.Item{item}, s.Items[5:]...)...)
		s.Events = append(s.Events, v1alpha1.Event{Seq: 107, Time: time.Now(), Type: v1alpha1.EventWarning, Object: item.Ref(), UID: item.Metadata.UID, Reason: "Slow", Message: "it takes 9 s to answer"})
	})
	p.await("the state and the event are shown", func() bool {
		return eval[bool](p, "document.title.includes('Degraded') && document.querySelector('h1').innerText.includes('Degraded') && !!document.getElementById('event-107')")
	})
	p.await("it is announced", func() bool {
		return eval[string](p, "document.getElementById('told').textContent") == "container/shop: Slow. it takes 9 s to answer"
	})
	if !eval[bool](p, "document.activeElement.matches('summary') && document.getElementById('act').open") {
		t.Error("the focus has moved, or what was open is closed: " + eval[string](p, "document.activeElement.outerHTML"))
	}
	p.open("/?only=trouble")
	p.await("live", live)
	r.backend.Update(func(s *servertest.State) { s.Items = s.Items[2:] })
	p.await("what is gone is gone", func() bool {
		return eval[string](p, `[...document.querySelectorAll('[id^="row-"]')].map((e) => e.id).join()`) == "row-Container-mailer,row-Container-shop"
	})
	r.stopDaemon()
	p.await("it is told that the daemon is away", func() bool { return eval[bool](p, "!!document.querySelector('#old[role=alert]')") })
	r.startDaemon()
	p.await("it is back", func() bool { return eval[bool](p, "!document.getElementById('old')") })
	p.clean()
}

// TestBrowserLog: lines come below what was there, and stay text.
func TestBrowserLog(t *testing.T) {
	state := populated(time.Now())
	r := newRig(t, state)
	p := newChromium(t).newTab(t, r.url)
	p.signIn()
	p.open("/objects/Container/billing/logs")
	p.await("the log is there, once", func() bool {
		return eval[string](p, "document.getElementById('log').textContent") == "listening on :9000\npanic: ledger is locked\n"
	})
	p.clean()
}

// TestBrowserHostile: what is hostile runs nowhere, asks for nothing and opens nothing.
func TestBrowserHostile(t *testing.T) {
	h := hostileText
	state := populated(time.Now())
	for i := range state.Items {
		s := &state.Items[i].Status
		s.URLs, s.Address, s.Machine = []string{"javascript:alert(1)", "http://" + h, h}, h, h
		s.Conditions = []v1alpha1.Condition{{Type: h, Status: v1alpha1.ConditionFalse, Reason: h, Message: h}}
		state.Items[i].Spec = map[string]any{"databases": []any{map[string]any{"name": h}}}
	}
	state.Items[3].Metadata.Name = h
	for i := range state.Events {
		state.Events[i].Message, state.Events[i].By = h, h
	}
	state.Logs["container/shop"] = h + "\n"
	r := newRig(t, state)
	p := newChromium(t).newTab(t, r.url)
	p.signIn()
	for _, path := range append([]string{"/objects/Container/shop/logs"}, allPages...) {
		p.open(path)
	}
	p.open("/")
	p.await("live", func() bool { return eval[string](p, "document.getElementById('live').innerText") == "live" })
	r.backend.Update(func(s *servertest.State) {
		s.Events = append(s.Events, v1alpha1.Event{Seq: 107, Object: v1alpha1.Ref{Kind: h, Name: h}, Reason: h, Message: h})
	})
	p.await("it is shown", func() bool { return eval[bool](p, "!!document.getElementById('event-107')") })
	if n := eval[int](p, "document.querySelectorAll('img, main script, [onerror]').length"); n > 0 {
		t.Errorf("%d elements got in", n)
	}
	p.clean("404 (Not Found)")
}

// maxScreenshot keeps the documents small.
const maxScreenshot = 150 << 10

// TestScreenshots makes the pictures of docs/status-page.md.
func TestScreenshots(t *testing.T) {
	dir := *screenshots
	if dir == "" {
		dir = t.TempDir()
	}
	r := newRig(t, populated(time.Now()))
	r.server.host = "box"
	p := newChromium(t).newTab(t, r.url)
	p.scheme(false)
	p.signIn()
	for _, s := range []struct {
		name, path    string
		dark          bool
		width, height int
	}{
		{"light", "/", false, 1000, 1000}, {"dark", "/", true, 1000, 1000}, {"object", "/objects/Container/billing", false, 1000, 860},
		{"picture", "/picture", false, 1060, 860}, {"log", "/objects/Container/shop/logs", true, 1000, 720},
	} {
		p.scheme(s.dark)
		p.size(s.width, s.height)
		p.open(s.path)
		p.await("live", func() bool { return eval[string](p, "document.getElementById('live').innerText") == "live" })
		time.Sleep(300 * time.Millisecond) // the page that is fetched when it is live
		png := p.screenshot()
		if len(png) > maxScreenshot {
			t.Errorf("%s has %d bytes", s.name, len(png))
		}
		if err := os.WriteFile(filepath.Join(dir, "status-"+s.name+".png"), png, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p.clean()
}
