package soak_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/test/systemdhost"
)

const (
	objects = 100
	// lanes make one change at a time each, and wait for its end: so much is under
	// way at once, whatever the machine can carry.
	lanes = 4
)

// object is one of the objects of the soak. Its shape never changes, so that
// any two moments at which all are there can be compared.
type object struct {
	index      int
	turn       int // each change is a new one; a label tells it
	generation int // what a machine reads at its start
	there      bool
}

func (o *object) name() string   { return fmt.Sprintf("s%02d", o.index) }
func (o *object) routed() bool   { return o.index%4 == 1 }
func (o *object) stored() bool   { return o.index%5 == 2 }
func (o *object) linked() bool   { return o.index%7 == 3 }
func (o *object) database() bool { return o.index%25 == 4 }

// contained objects are containers of NixOS, which are units.
func (o *object) contained() bool { return systemdhost.Inside() && o.index%20 == 9 }

// host is where a routed object is served; each turn has another.
func (o *object) host() string { return fmt.Sprintf("%s-%d.test", o.name(), o.turn) }

func (o *object) yaml(r *rig) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: tekton.host/v1alpha1\nkind: Container\nmetadata: {name: %s, labels: {turn: %q}}\nspec:\n", o.name(), fmt.Sprint(o.turn))
	fmt.Fprintf(&b, "  environment: {GENERATION: %q}\n  stopTimeout: 1s\n", fmt.Sprint(o.generation))
	if o.contained() {
		fmt.Fprintf(&b, "  runtime: nixos-container\n  system: {storePath: %s}\n", r.system())
	} else {
		fmt.Fprintf(&b, "  system: {rootfs: %s}\n", r.rootfs)
		b.WriteString("  command: [/usr/bin/busybox, sh, -c, 'busybox mkdir -p /srv/w; echo $GENERATION >/srv/w/index.html; exec busybox httpd -f -p 8080 -h /srv/w']\n")
	}
	fmt.Fprintf(&b, "  probe: {http: {path: /index.html, port: 8080}}\n  resources: {tasksMax: %d}\n", 50+o.turn%50)
	fmt.Fprintf(&b, "  network:\n    egress: {mode: none, allow: [93.184.216.%d]}\n", o.turn%250)
	if o.linked() {
		fmt.Fprintf(&b, "    links: [{to: %s, port: 8080}]\n", (&object{index: (o.index + 1) % objects}).name())
	}
	if o.routed() {
		fmt.Fprintf(&b, "  routes: [{host: %s, port: 8080}]\n", o.host())
	}
	if o.stored() {
		b.WriteString("  volumes: [{name: data, path: /data, deletionPolicy: Delete}]\n")
	}
	if o.database() {
		b.WriteString("  databases: [{name: main, env: DATABASE_URL, deletionPolicy: Delete}]\n")
	}
	return b.String()
}

// action is one sort of change.
type action string

const (
	create  action = "create"
	hot     action = "hot change"
	replace action = "replace"
	remove  action = "delete"
	vanish  action = "delete file" // confirmed for 2 s by design
)

// churn is what has happened so far.
type churn struct {
	*rig
	mu    sync.Mutex
	took  map[action][]time.Duration
	lives int // of instances that have ended
}

func (c *churn) count(a action, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.took[a] = append(c.took[a], took)
	if a != create && a != hot {
		c.lives++
	}
}

// do makes a change and waits until the host is as it asks for.
func (c *churn) do(o *object, a action) error {
	c.rig.mu.Lock()
	before := c.items[o.name()].Status
	c.rig.mu.Unlock()
	if a != remove && a != vanish {
		o.turn++
	}
	if a == create || a == replace {
		o.generation++
	}
	began := time.Now()
	var err error
	switch a {
	case remove: // a document that leaves its file goes at once
		err = c.write(o.name(), "# gone\n")
	case vanish:
		err = os.Remove(c.path("state/specs/" + o.name() + ".yaml"))
	default:
		err = c.write(o.name(), o.yaml(c.rig))
	}
	if err != nil {
		return err
	}
	if a == remove || a == vanish {
		err = c.gone(o, before)
	} else {
		err = c.serves(o, a, before)
	}
	if err != nil {
		return fmt.Errorf("%s of %s (turn %d): %w", a, o.name(), o.turn, err)
	}
	c.count(a, time.Since(began))
	o.there = a != remove && a != vanish
	return nil
}

// gone waits until object and link are gone. What else there was shows in the next sample.
func (c *churn) gone(o *object, before v1alpha1.Status) error {
	if _, err := c.await(o.name(), func(_ v1alpha1.Item, there bool) bool { return !there }); err != nil {
		return err
	}
	return until("its link is gone", func() error {
		link := fmt.Sprintf("tk%s%d", c.instance, before.Slot)
		if l, err := netlink.LinkByName(link); err == nil && strings.Contains(l.Attrs().Alias, before.Machine) {
			return fmt.Errorf("%s is there: %s", link, l.Attrs().Alias)
		}
		return nil
	})
}

// serves waits until the daemon says that the newest spec is in effect, and the
// machine itself, through its route where it has one.
func (c *churn) serves(o *object, a action, before v1alpha1.Status) error {
	item, err := c.await(o.name(), func(i v1alpha1.Item, there bool) bool {
		return there && (i.Metadata.Labels["turn"] == fmt.Sprint(o.turn) && i.Status.Phase == v1alpha1.PhaseReady || i.Status.Phase == v1alpha1.PhaseRejected)
	})
	if err != nil {
		return err
	}
	if item.Status.Phase == v1alpha1.PhaseRejected {
		return fmt.Errorf("it is rejected: %+v", item.Status.Conditions)
	}
	if a == hot && item.Status.Machine != before.Machine {
		return fmt.Errorf("machine %s became %s by a hot change", before.Machine, item.Status.Machine)
	}
	at, host := item.Status.Address+":8080", ""
	if o.routed() {
		at, host = fmt.Sprintf("127.0.0.1:%d", httpPort), o.host()
	}
	return until("it serves", func() error {
		body, err := fetch("http://"+at+"/index.html", host)
		if err == nil && strings.TrimSpace(body) != fmt.Sprint(o.generation) {
			err = fmt.Errorf("at %s (host %q) answers generation %q, not %d", at, host, body, o.generation)
		}
		return err
	})
}

// web has no connections that outlive a request: they would be counted.
var web = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}

func fetch(url, host string) (string, error) { return fetchWith(web, url, host) }

func fetchWith(c *http.Client, url, host string) (string, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	req.Host = host
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	body, err := readAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, body)
	}
	return body, err
}

// overSocket asks a server on a unix socket; Caddy wants to be called tekton there.
func overSocket(socket, path string) (string, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return fetchWith(&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: patience}, "http://tekton"+path, "")
}

// lane is a part of the objects, which one goroutine changes.
type lane struct {
	*churn
	objects []*object
	random  *rand.Rand
}

// run changes objects until a moment, then brings back those that are gone.
func (l *lane) run(until time.Time) error {
	for time.Now().Before(until) {
		o := l.objects[l.random.IntN(len(l.objects))]
		if err := l.do(o, l.choose(o)); err != nil {
			return err
		}
	}
	for _, o := range l.objects {
		if !o.there {
			if err := l.do(o, create); err != nil {
				return err
			}
		}
	}
	return nil
}

// choose an action; half of all are hot changes.
func (l *lane) choose(o *object) action {
	if !o.there {
		return create
	}
	switch n := l.random.IntN(16); {
	case n < 8:
		return hot
	case n < 12:
		return replace
	case n < 15:
		return remove
	default:
		return vanish
	}
}

// all lanes at once.
func all(ls []*lane, do func(*lane) error) error {
	errs := make(chan error, len(ls))
	for _, l := range ls {
		go func() { errs <- do(l) }()
	}
	var first error
	for range ls {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}
