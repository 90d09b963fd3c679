package soak_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
)

const (
	// rounds at least: thirds of them are compared.
	rounds = 6
	// longestRound between two samples.
	longestRound = 20 * time.Second
	// enough lives that one leaked thing a life is far above what varies.
	enough = 150
)

// TestSoak churns and compares; see doc.go.
func TestSoak(t *testing.T) {
	length, seed := settings(t)
	t.Logf("%s, seed %d (TEKTON_SOAK_SEED=%d)", length, seed, seed)
	c := &churn{rig: newRig(t), took: map[action][]time.Duration{}}
	forgetSoon(t)
	empty := c.atRest()
	listing := c.listing()

	var ls []*lane
	for i := range lanes {
		l := &lane{churn: c, random: rand.New(rand.NewPCG(seed, uint64(i)))}
		for n := i; n < objects; n += lanes {
			l.objects = append(l.objects, &object{index: n})
		}
		ls = append(ls, l)
	}
	began := time.Now()
	c.check(all(ls, func(l *lane) error { return l.run(time.Time{}) }))
	t.Logf("%d objects are there after %s", objects, time.Since(began).Round(time.Millisecond))
	var samples []sample
	for end := time.Now().Add(length); time.Now().Before(end) || len(samples) < rounds || c.lives < enough; {
		round := min(longestRound, length/rounds)
		c.check(all(ls, func(l *lane) error { return l.run(time.Now().Add(round)) }))
		samples = append(samples, c.atRest())
	}
	table, grown := growths(samples)
	t.Logf("%d samples, %d lives of machines, %d changes:\n%s", len(samples), c.lives, c.changes(), strings.Join(table, "\n"))
	t.Logf("reaction times, from the file to what a client is served:\n%s", c.quantiles())
	if len(grown) > 0 {
		t.Errorf("grows with the number of objects' lives: %s", strings.Join(grown, ", "))
	}
	c.check(all(ls, func(l *lane) error { return l.empty() }))
	c.nothingLeft(empty, listing)
}

// forgetSoon has the kernel forget closed connections, and what has none (DNS), at
// once, so that those that are tracked are those that somebody left open.
func forgetSoon(t *testing.T) {
	t.Helper()
	for _, timeout := range []string{
		"tcp_timeout_time_wait", "tcp_timeout_fin_wait", "tcp_timeout_close_wait", "tcp_timeout_last_ack", "tcp_timeout_syn_sent", "tcp_timeout_syn_recv",
		"tcp_timeout_unacknowledged", "tcp_timeout_max_retrans", "udp_timeout", "udp_timeout_stream", "icmp_timeout",
	} {
		if err := os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_"+timeout, []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// atRest waits until nothing is to be done, empties the trash, which keeps
// deleted data for days, and samples.
func (c *churn) atRest() sample {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	c.eventually("nothing is to be done", func() error {
		report, err := c.api.Plan(ctx, nil)
		if err == nil && report.Changes() {
			err = errors.New("the plan has changes")
		}
		return err
	})
	c.check(c.emptyTrash(ctx))
	s, err := c.rest()
	c.check(err)
	return s
}

func (r *rig) emptyTrash(ctx context.Context) error {
	data, err := r.api.ListData(ctx)
	for _, d := range data {
		if d.State == v1alpha1.DataInTrash {
			err = errors.Join(err, r.api.DeleteData(ctx, d.ID))
		}
	}
	return err
}

// empty deletes the objects of a lane.
func (l *lane) empty() error {
	for _, o := range l.objects {
		if err := l.do(o, remove); err != nil {
			return err
		}
		if err := os.Remove(l.path("state/specs/" + o.name() + ".yaml")); err != nil {
			return err
		}
	}
	return nil
}

// listing names what is in our directories.
func (r *rig) listing() map[string]bool {
	out := map[string]bool{}
	for _, dir := range []string{"state", "run"} {
		count(r.path(dir), func(path string) bool { out[path] = true; return false })
	}
	return out
}

// kept is what stays of a daemon that had objects once, however many.
var kept = []string{"run/containers", "state/events.jsonl", "state/events.jsonl.1", "state/ledger.json", "state/ledger.json.1", "state/missing.json", "state/passwords/.owners", "state/trash", "state/trash/databases", "state/volumes"}

// nothingLeft demands that the host is as it was before the first object.
func (c *churn) nothingLeft(empty sample, listing map[string]bool) {
	c.t.Helper()
	c.eventually("nothing is left", func() error {
		s, err := c.sample()
		if err := errors.Join(err, c.emptyTrash(c.t.Context())); err != nil {
			return err
		}
		var left []string
		for _, name := range []string{"processes", "cgroups", "mounts", "links", "addresses", "ip rules", "routes", "nft objects", "units", "supervisors"} {
			if s[name] != empty[name] {
				left = append(left, fmt.Sprintf("%d %s, %d before", s[name], name, empty[name]))
			}
		}
		for path := range c.listing() {
			if name, _ := filepath.Rel(c.dir, path); !listing[path] && !slices.Contains(kept, name) {
				left = append(left, name)
			}
		}
		if slices.Sort(left); len(left) > 0 {
			return fmt.Errorf("left:\n%s", strings.Join(left[:min(len(left), 30)], "\n"))
		}
		return nil
	})
}

func (c *churn) changes() int {
	n := 0
	for _, took := range c.took {
		n += len(took)
	}
	return n
}

// quantiles are told, never judged: they depend on the machine and what else runs there.
func (c *churn) quantiles() string {
	var b strings.Builder
	var every []time.Duration
	line := func(name string, took []time.Duration) {
		slices.Sort(took)
		at := func(q float64) time.Duration { return took[int(q*float64(len(took)-1))].Round(time.Millisecond) }
		fmt.Fprintf(&b, "%-12s %5d times   p50 %8s   p90 %8s   p99 %8s\n", name, len(took), at(.5), at(.9), at(.99))
	}
	for _, a := range slices.Sorted(maps.Keys(c.took)) {
		line(string(a), c.took[a])
		if a != vanish { // that one waits by design
			every = append(every, c.took[a]...)
		}
	}
	line("all others", every)
	return b.String()
}
