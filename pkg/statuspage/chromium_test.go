package statuspage

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// chromium is Debian's, without a window, spoken with over two pipes in its
// DevTools' protocol: a library for that is larger than all of our dependencies.
type chromium struct {
	t    *testing.T
	in   io.Writer
	mu   sync.Mutex
	last int
	wait map[int]chan message
	tabs map[string]*tab
}

type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// browserTimeout of anything that is waited for, on a machine that is busy.
const browserTimeout = 60 * time.Second

// newChromium starts one, with a profile of its own that goes with the test. Where
// there is none the test is skipped, or fails where all is to be tested.
func newChromium(t *testing.T) *chromium {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("TEKTON_TEST_REQUIRE") == "1" {
			t.Fatal("chromium is missing; hack/deps.sh installs it")
		}
		t.Skip("SKIPPED: chromium is missing; hack/deps.sh installs it")
	}
	if testing.Short() {
		t.Skip("SKIPPED: it starts a browser")
	}
	fromUs, toIt, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fromIt, toUs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{fromUs, toUs} // it reads 3 and writes 4
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fromUs.Close()
	toUs.Close()
	c := &chromium{t: t, in: toIt, wait: map[int]chan message{}, tabs: map[string]*tab{}}
	read := make(chan struct{})
	go func() {
		defer close(read)
		c.read(fromIt)
	}()
	t.Cleanup(func() {
		c.send(message{Method: "Browser.close"}, nil)
		ended := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		ended.Stop()
		toIt.Close()
		fromIt.Close()
		<-read
	})
	return c
}

func (c *chromium) read(from io.Reader) {
	for in := bufio.NewReader(from); ; {
		text, err := in.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			continue
		}
		c.mu.Lock()
		answer, tab := c.wait[m.ID], c.tabs[m.Session]
		delete(c.wait, m.ID)
		c.mu.Unlock()
		if answer != nil {
			answer <- m
		} else if tab != nil {
			tab.heard(m)
		}
	}
}

// send a command, and return where its answer comes.
func (c *chromium) send(m message, given any) chan message {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	m.ID = c.last
	m.Params, _ = json.Marshal(given)
	if given == nil {
		m.Params = []byte("{}")
	}
	answer := make(chan message, 1)
	c.wait[m.ID] = answer
	text, _ := json.Marshal(m)
	c.in.Write(append(text, 0))
	return answer
}

func (c *chromium) call(session, method string, given, into any) error {
	select {
	case m := <-c.send(message{Session: session, Method: method}, given):
		if m.Error != nil {
			return fmt.Errorf("%s: %s", method, m.Error.Message)
		}
		if into == nil {
			return nil
		}
		return json.Unmarshal(m.Result, into)
	case <-time.After(browserTimeout):
		return errors.New(method + ": no answer")
	}
}

// tab is a page with cookies of its own.
type tab struct {
	c       *chromium
	t       *testing.T
	session string
	base    string

	mu       sync.Mutex
	loads    int
	requests []string // that went out
	wrong    []string // that the console, the policy or a dialog said
}

// params of a command.
type params = map[string]any

// newTab shows pages below base.
func (c *chromium) newTab(t *testing.T, base string) *tab {
	t.Helper()
	p := &tab{c: c, t: t, base: base}
	var own, made, attached struct{ BrowserContextID, TargetID, SessionID string }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.call("", "Target.createBrowserContext", nil, &own))
	t.Cleanup(func() {
		c.call("", "Target.disposeBrowserContext", params{"browserContextId": own.BrowserContextID}, nil)
	})
	must(c.call("", "Target.createTarget", params{"url": "about:blank", "browserContextId": own.BrowserContextID}, &made))
	must(c.call("", "Target.attachToTarget", params{"targetId": made.TargetID, "flatten": true}, &attached))
	p.session = attached.SessionID
	c.mu.Lock()
	c.tabs[p.session] = p
	c.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Network", "Log", "DOM", "Accessibility"} {
		p.call(domain+".enable", nil, nil)
	}
	p.size(1180, 900)
	return p
}

func (p *tab) heard(m message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch m.Method {
	case "Page.loadEventFired":
		p.loads++
	case "Network.requestWillBeSent":
		var e struct{ Request struct{ URL string } }
		json.Unmarshal(m.Params, &e)
		p.requests = append(p.requests, e.Request.URL)
	case "Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Page.javascriptDialogOpening":
		p.wrong = append(p.wrong, m.Method+" "+string(m.Params))
	}
}

func (p *tab) call(method string, given, into any) {
	p.t.Helper()
	if err := p.c.call(p.session, method, given, into); err != nil {
		p.t.Fatal(err)
	}
}

func (p *tab) size(width, height int) {
	p.t.Helper()
	p.call("Emulation.setDeviceMetricsOverride", params{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
}

func (p *tab) scheme(dark bool) {
	p.t.Helper()
	value := "light"
	if dark {
		value = "dark"
	}
	features := []params{{"name": "prefers-color-scheme", "value": value}, {"name": "prefers-reduced-motion", "value": "reduce"}}
	p.call("Emulation.setEmulatedMedia", params{"features": features}, nil)
}

// open a page and wait until it is there.
func (p *tab) open(path string) {
	p.t.Helper()
	p.await("loaded: "+path, p.loading(func() { p.call("Page.navigate", params{"url": p.base + path}, nil) }))
}

// loading does what leads to another page, and returns whether that is there.
func (p *tab) loading(do func()) func() bool {
	count := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.loads
	}
	before := count()
	do()
	return func() bool { return count() > before }
}

func (p *tab) await(what string, holds func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(browserTimeout); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("never: %s", what)
		}
	}
}

// eval returns what an expression is in the page.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	var got struct {
		Result           struct{ Value T }
		ExceptionDetails *struct{ Text string }
	}
	p.call("Runtime.evaluate", params{"expression": expression, "returnByValue": true, "awaitPromise": true}, &got)
	if got.ExceptionDetails != nil {
		p.t.Fatalf("%s: %s", expression, got.ExceptionDetails.Text)
	}
	return got.Result.Value
}

// press a key: Tab, Enter, Space, or a letter.
func (p *tab) press(key string, shift bool) {
	p.t.Helper()
	codes := map[string]struct {
		code int
		text string
	}{"Tab": {9, ""}, "Enter": {13, "\r"}, " ": {32, " "}}
	one, special := codes[key]
	if !special {
		p.call("Input.insertText", params{"text": key}, nil)
		return
	}
	modifiers := 0
	if shift {
		modifiers = 8
	}
	e := params{"type": "keyDown", "key": key, "code": strings.Replace(key, " ", "Space", 1), "windowsVirtualKeyCode": one.code, "text": one.text, "modifiers": modifiers}
	p.call("Input.dispatchKeyEvent", e, nil)
	e["type"], e["text"] = "keyUp", ""
	p.call("Input.dispatchKeyEvent", e, nil)
}

// tabTo presses Tab until the element that a selector names has the focus.
func (p *tab) tabTo(selector string) {
	p.t.Helper()
	quoted, _ := json.Marshal(selector)
	for range 200 {
		p.press("Tab", false)
		if eval[bool](p, "document.activeElement.matches("+string(quoted)+")") {
			return
		}
	}
	p.t.Fatalf("the keyboard does not reach %s", selector)
}

// clean reports what the page has asked for elsewhere, and what went wrong in it.
func (p *tab) clean(except ...string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, url := range p.requests {
		if !strings.HasPrefix(url, p.base+"/") {
			p.t.Errorf("the page asks for %s", url)
		}
	}
	for _, w := range p.wrong {
		if !slices.ContainsFunc(except, func(e string) bool { return strings.Contains(w, e) }) {
			p.t.Errorf("the browser complains: %s", w)
		}
	}
	p.wrong = nil
}

// screenshot of what is visible, as PNG.
func (p *tab) screenshot() []byte {
	p.t.Helper()
	var got struct{ Data string }
	p.call("Page.captureScreenshot", params{"format": "png", "optimizeForSpeed": false}, &got)
	png, err := base64.StdEncoding.DecodeString(got.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	return png
}
