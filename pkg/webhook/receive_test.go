package webhook

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"

	"tekton.host/pkg/api/v1alpha1"
)

// TestAnswers: what a forge's administrator sees in the list of deliveries.
func TestAnswers(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{}))
	w.settle()
	body := pullBody(7)
	comment := `{"action":"created","issue":{"number":7,"pull_request":{}},"repository":{"full_name":"team/shop"}}`
	headers := func(event, id, signature string) map[string]string {
		return map[string]string{"Content-Type": "application/json", "X-GitHub-Event": event, "X-GitHub-Delivery": id, "X-Hub-Signature-256": signature}
	}
	without := func(h map[string]string, name string) map[string]string {
		delete(h, name)
		return h
	}
	for _, tt := range []struct {
		what, method, path, body string
		header                   map[string]string
		want                     int
	}{
		{"pull request", "POST", "/webhook/github", body, headers("pull_request", "a", sign(body)), 202},
		{"the same delivery", "POST", "/webhook/github", body, headers("pull_request", "a", sign(body)), 200},
		{"another delivery", "POST", "/webhook/github", body, headers("pull_request", "b", sign(body)), 202},
		{"a slash at the end", "POST", "/webhook/github/", body, headers("pull_request", "n", sign(body)), 202},
		{"something below it", "POST", "/webhook/github/x", body, headers("pull_request", "o", sign(body)), 404},
		{"comment", "POST", "/webhook/github", comment, headers("issue_comment", "c", sign(comment)), 202},
		{"ping", "POST", "/webhook/github", "{}", headers("ping", "d", sign("{}")), 200},
		{"event that says nothing to us", "POST", "/webhook/github", "{}", headers("star", "e", sign("{}")), 200},
		{"no signature", "POST", "/webhook/github", body, without(headers("pull_request", "f", ""), "X-Hub-Signature-256"), 401},
		{"bad signature", "POST", "/webhook/github", body, headers("pull_request", "g", sign(body+" ")), 401},
		{"SHA-1", "POST", "/webhook/github", body, map[string]string{"X-Hub-Signature": "sha1=0123", "X-GitHub-Event": "pull_request"}, 401},
		{"bad signature of no JSON", "POST", "/webhook/github", "x", headers("pull_request", "h", sign("y")), 401},
		{"no JSON", "POST", "/webhook/github", "x", headers("pull_request", "i", sign("x")), 400},
		{"no event", "POST", "/webhook/github", body, without(headers("", "j", sign(body)), "X-GitHub-Event"), 400},
		{"no delivery id", "POST", "/webhook/github", body, without(headers("pull_request", "", sign(body)), "X-GitHub-Delivery"), 400},
		{"form", "POST", "/webhook/github", body, map[string]string{"Content-Type": "application/x-www-form-urlencoded", "X-GitHub-Event": "ping", "X-GitHub-Delivery": "k", "X-Hub-Signature-256": sign(body)}, 400},
		{"another forge", "POST", "/webhook/gitlab", body, headers("pull_request", "l", sign(body)), 404},
		{"too large", "POST", "/webhook/github", strings.Repeat("x", MaxBody+1), headers("pull_request", "m", ""), 413},
		{"not a POST", "GET", "/webhook/github", "", nil, 405},
		{"health", "GET", "/healthz", "", nil, 200},
		{"metrics", "GET", "/metrics", "", nil, 200},
		{"anything else", "GET", "/", "", nil, 404},
	} {
		r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
		for name, value := range tt.header {
			r.Header.Set(name, value)
		}
		answer := httptest.NewRecorder()
		w.handler.ServeHTTP(answer, r)
		if answer.Code != tt.want || strings.Contains(answer.Body.String(), secret) {
			t.Errorf("%s: %d %s, want %d", tt.what, answer.Code, answer.Body, tt.want)
		}
		if tt.path == "/metrics" && (!strings.Contains(answer.Body.String(), `tekton_webhook_deliveries_total{answer="Accepted"} 4`) || strings.Contains(answer.Body.String(), secret)) {
			t.Errorf("metrics:\n%s", answer.Body)
		}
	}
	// A body whose length nobody says is bounded all the same.
	r := httptest.NewRequest("POST", "/webhook/github", &endless{})
	r.ContentLength = -1
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	if answer.Code != 413 {
		t.Errorf("a body without an end: %d", answer.Code)
	}
	w.restart()
	w.settle()
	if code := w.deliver("a", "pull_request", body); code != 200 {
		t.Errorf("the same delivery after a restart: %d", code)
	}
	w.daemon.goAway(true)
	w.settle()
	answer = httptest.NewRecorder()
	w.handler.ServeHTTP(answer, httptest.NewRequest("GET", "/healthz", nil))
	if answer.Code != 503 {
		t.Errorf("healthy without the daemon: %d", answer.Code)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestSlowBodies: who announces much and sends nothing stops nobody, and is not waited for.
func TestSlowBodies(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{}))
	w.settle()
	web := httptest.NewServer(w.handler)
	defer web.Close()
	slow := make([]net.Conn, 4)
	for i := range slow {
		c, err := net.Dial("tcp", web.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST /webhook/github HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", MaxBody)
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "100") {
			t.Fatalf("%q, %v", line, err) // it is being read
		}
		slow[i] = c
	}
	began := time.Now()
	if code := w.deliver("a", "pull_request", pullBody(7)); code != 202 || time.Since(began) > bodyWithin/2 {
		t.Errorf("%d after %s", code, time.Since(began))
	}
	for _, c := range slow {
		c.Close()
	}
	w.server.reading.within = 50 * time.Millisecond
	c, err := net.Dial("tcp", web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(bodyWithin / 2))
	fmt.Fprint(c, "POST /webhook/github HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx")
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "408") {
		t.Errorf("%q, %v", line, err)
	}
}

// TestBodiesGiveWay: of large bodies that together do not fit some are read, and all is given back.
func TestBodiesGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where all have waited enough at one time
		b := &budget{memory: semaphore.NewWeighted(1 << 20), within: bodyWithin}
		var whole atomic.Int32
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				text := strings.Repeat("x", 900<<10)
				body, release, err := b.read(t.Context(), iotest.OneByteReader(strings.NewReader(text)))
				defer release()
				if err == nil && string(body) == text {
					whole.Add(1)
				} else if !errors.Is(err, errBusy) {
					t.Error(len(body), err)
				}
			})
		}
		all.Wait()
		if whole.Load() == 0 || !b.memory.TryAcquire(1<<20) {
			t.Errorf("%d were read", whole.Load())
		}
	})
}

// TestSecretsUnreadable: a delivery that cannot be checked is neither believed nor refused for good.
func TestSecretsUnreadable(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{}))
	f := w.server.forges["github"]
	f.Secrets = func() ([][]byte, error) { return nil, errors.New("no such file") }
	w.server.forges["github"] = f
	if code := w.deliver("a", "ping", "{}"); code != 503 {
		t.Errorf("answered %d", code)
	}
}

// TestBurst: a thousand deliveries at once lose nothing, and are few looks.
func TestBurst(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{}))
	w.settle()
	const pulls, deliveries = 50, 1000
	for n := 1; n <= pulls; n++ {
		w.forge.open(n)
	}
	w.forge.mu.Lock() // the forge is slow: all come before the first is looked at
	var refused atomic.Int32
	var senders sync.WaitGroup
	for i := range deliveries {
		senders.Go(func() {
			if w.deliver(fmt.Sprint("burst-", i), "pull_request", pullBody(i%pulls+1)) != http.StatusAccepted {
				refused.Add(1)
			}
		})
	}
	senders.Wait()
	w.forge.mu.Unlock()
	w.settle()
	if n := len(w.previews()); n != pulls || refused.Load() != 0 {
		t.Errorf("%d previews, %d deliveries refused", n, refused.Load())
	}
	if w.forge.asked > 2*pulls || w.teller.times > 2*pulls {
		t.Errorf("%d looks and %d comments for %d pull requests", w.forge.asked, w.teller.times, pulls)
	}
	if n := w.server.journal.Len(); n != 0 {
		t.Errorf("%d are still pending", n)
	}
}

// BenchmarkDelivery: from a delivery to its spec on the disk.
func BenchmarkDelivery(b *testing.B) {
	w := newWorld(b, shop(v1alpha1.PullRequestPolicy{}))
	w.settle()
	n := 0
	for b.Loop() {
		n++
		w.forge.open(n)
		w.event(n)
		for {
			if e, err := w.server.store.Read(Ref{"shop", n}); err == nil && e.State == SpecPresent {
				break
			}
		}
	}
}

// BenchmarkBurst: a thousand deliveries for a hundred pull requests, until all specs are there.
func BenchmarkBurst(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		w := newWorld(b, shop(v1alpha1.PullRequestPolicy{}))
		w.settle()
		for n := range 100 {
			w.forge.open(n + 1)
		}
		b.StartTimer()
		var senders sync.WaitGroup
		for i := range 1000 {
			senders.Go(func() { w.deliver(fmt.Sprint(i), "pull_request", pullBody(i%100+1)) })
		}
		senders.Wait()
		for len(w.previews()) < 100 {
			if context.Cause(b.Context()) != nil {
				return
			}
		}
	}
}
