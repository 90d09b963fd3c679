// Package ledgertest is the one suite that every ledger.Store passes.
package ledgertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tekton.host/pkg/ledger"
	"tekton.host/pkg/resource"
)

// patience bounds waits for what must happen.
const patience = 20 * time.Second

// Run runs the suite. open returns an empty store.
func Run(t *testing.T, open func(t *testing.T) ledger.Store) {
	for name, test := range map[string]func(*testing.T, ledger.Store){
		"empty": empty, "claim": claim, "compare and set": compareAndSet, "other owner": otherOwner, "release": release,
		"batch": batch, "values": values, "invalid": invalid, "cancelled": cancelled, "race": race, "watch": watch, "lists are copies": copies,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func entry(key, owner, value string, revision int64) resource.Claim {
	return resource.Claim{Key: key, Owner: owner, Value: json.RawMessage(value), Revision: revision}
}

func list(t *testing.T, s ledger.Store) ([]resource.Claim, int64) {
	t.Helper()
	claims, revision, err := s.List(t.Context())
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	return claims, revision
}

// expect compares what the store holds, but for the times.
func expect(t *testing.T, s ledger.Store, want ...resource.Claim) {
	t.Helper()
	got, _ := list(t, s)
	opts := []cmp.Option{cmpopts.IgnoreFields(resource.Claim{}, "Since", "Revision"), cmpopts.EquateEmpty()}
	if diff := cmp.Diff(want, got, opts...); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func commit(t *testing.T, s ledger.Store, ops ...ledger.Op) {
	t.Helper()
	for i, err := range s.Commit(t.Context(), ops) {
		if err != nil {
			t.Fatalf("operation %d on %s: %v", i, ops[i].Claim.Key, err)
		}
	}
}

// refused commits one operation and returns its error.
func refused(t *testing.T, s ledger.Store, op ledger.Op) error {
	t.Helper()
	_, before := list(t, s)
	errs := s.Commit(t.Context(), []ledger.Op{op})
	if len(errs) != 1 || errs[0] == nil {
		t.Fatalf("errors = %v, want one", errs)
	}
	if _, after := list(t, s); after != before {
		t.Errorf("revision went from %d to %d by an operation that was refused", before, after)
	}
	return errs[0]
}

func empty(t *testing.T, s ledger.Store) {
	if claims, revision := list(t, s); len(claims) != 0 || revision != 0 {
		t.Errorf("%v at revision %d, want nothing at 0", claims, revision)
	}
	if errs := s.Commit(t.Context(), nil); len(errs) != 0 {
		t.Errorf("errors of no operation: %v", errs)
	}
}

func claim(t *testing.T, s ledger.Store) {
	commit(t, s, ledger.Claim(entry("slot/2", "b", `{"n":2}`, 0)), ledger.Claim(entry("slot/1", "a", "", 0)))
	expect(t, s, entry("slot/1", "a", "", 0), entry("slot/2", "b", `{"n":2}`, 0))
	claims, revision := list(t, s)
	for _, c := range claims {
		if c.Revision <= 0 || c.Revision > revision || c.Since.IsZero() {
			t.Errorf("%s has revision %d of %d and is claimed since %s", c.Key, c.Revision, revision, c.Since)
		}
	}
	commit(t, s, ledger.Claim(entry("slot/2", "b", `{"n":2}`, 0)))
	if _, again := list(t, s); again != revision {
		t.Errorf("revision went from %d to %d though nothing changed", revision, again)
	}
}

func compareAndSet(t *testing.T, s ledger.Store) {
	commit(t, s, ledger.Claim(entry("k", "a", `1`, 0)))
	first, _ := list(t, s)
	seen := first[0].Revision
	if err := refused(t, s, ledger.Claim(entry("k", "a", `2`, 0))); !errors.Is(err, resource.ErrStale) {
		t.Errorf("claimed as new though it is there: %v, want stale", err)
	}
	commit(t, s, ledger.Claim(entry("k", "a", `2`, seen)))
	second, _ := list(t, s)
	if second[0].Revision <= seen || !second[0].Since.Equal(first[0].Since) {
		t.Errorf("changed entry %+v after %+v: want a higher revision, the same since", second[0], first[0])
	}
	if err := refused(t, s, ledger.Claim(entry("k", "a", `3`, seen))); !errors.Is(err, resource.ErrStale) {
		t.Errorf("changed on an old view: %v, want stale", err)
	}
	// The same again is success, on whatever view.
	commit(t, s, ledger.Claim(entry("k", "a", `2`, seen)), ledger.Claim(entry("k", "a", `2`, 0)))
	if err := refused(t, s, ledger.Claim(entry("gone", "a", `1`, seen))); !errors.Is(err, resource.ErrStale) {
		t.Errorf("changed what is not there: %v, want stale", err)
	}
	expect(t, s, entry("k", "a", `2`, 0))
}

func otherOwner(t *testing.T, s ledger.Store) {
	commit(t, s, ledger.Claim(entry("route/web/", "first", `1`, 0)))
	claims, _ := list(t, s)
	for _, op := range []ledger.Op{
		ledger.Claim(entry("route/web/", "second", `1`, 0)),
		ledger.Claim(entry("route/web/", "second", `1`, claims[0].Revision)),
		ledger.Release(entry("route/web/", "second", ``, claims[0].Revision)),
		ledger.Release(entry("route/web/", "second", ``, 0)),
	} {
		err := refused(t, s, op)
		if resource.Reason(err, "") != ledger.ReasonClaimed || !strings.Contains(err.Error(), "first") {
			t.Errorf("%+v: %v, want reason %s and the owner's name", op, err, ledger.ReasonClaimed)
		}
	}
	expect(t, s, entry("route/web/", "first", `1`, 0))
}

func release(t *testing.T, s ledger.Store) {
	commit(t, s, ledger.Claim(entry("k", "a", `1`, 0)))
	claims, revision := list(t, s)
	if err := refused(t, s, ledger.Release(entry("k", "a", ``, claims[0].Revision+1))); !errors.Is(err, resource.ErrStale) {
		t.Errorf("released on another view: %v, want stale", err)
	}
	commit(t, s, ledger.Release(claims[0]))
	expect(t, s)
	commit(t, s, ledger.Release(claims[0])) // already gone
	_, after := list(t, s)
	if after <= revision {
		t.Errorf("revision %d after a release at %d", after, revision)
	}
	commit(t, s, ledger.Claim(entry("k", "b", `2`, 0)))
	if claims, _ := list(t, s); claims[0].Revision <= after {
		t.Errorf("claimed again at revision %d, released at %d: an old view could pass for the new one", claims[0].Revision, after)
	}
}

func batch(t *testing.T, s ledger.Store) {
	commit(t, s, ledger.Claim(entry("slot/1", "old", "", 0)), ledger.Claim(entry("taken", "x", "", 0)))
	_, before := list(t, s)
	errs := s.Commit(t.Context(), []ledger.Op{
		ledger.Release(entry("slot/1", "old", "", 0)),
		ledger.Claim(entry("slot/1", "new", "", 0)), // in order: it is free by now
		ledger.Claim(entry("taken", "new", "", 0)),
		ledger.Claim(entry("slot/2", "new", "", 0)),
		ledger.Claim(entry("slot/2", "other", "", 0)),
	})
	var got []string
	for _, err := range errs {
		got = append(got, resource.Reason(err, fmt.Sprint(err)))
	}
	if diff := cmp.Diff([]string{"<nil>", "<nil>", "Claimed", "<nil>", "Claimed"}, got); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	expect(t, s, entry("slot/1", "new", "", 0), entry("slot/2", "new", "", 0), entry("taken", "x", "", 0))
	if _, after := list(t, s); after != before+1 {
		t.Errorf("revision went from %d to %d, want one a batch", before, after)
	}
}

// values come back byte for byte, compact.
func values(t *testing.T, s ledger.Store) {
	for i, v := range []string{`null`, `"<&>\u2028"`, `{"b":1,"a":[1,2.50,1e3]}`, `{"long":12345678901234567890}`, `"ü \u0000"`} {
		key := fmt.Sprintf("k%d", i)
		commit(t, s, ledger.Claim(entry(key, "a", "  "+v+"\n", 0)))
		claims, _ := list(t, s)
		if got := string(claims[i].Value); got != v {
			t.Errorf("%s: value %s came back as %s", key, v, got)
		}
	}
}

func invalid(t *testing.T, s ledger.Store) {
	for name, c := range map[string]resource.Claim{
		"no key": entry("", "a", "1", 0), "no owner": entry("k", "", "1", 0), "no JSON": entry("k", "a", "{", 0), "two values": entry("k", "a", "1 2", 0),
	} {
		err := refused(t, s, ledger.Claim(c))
		if _, terminal := errors.AsType[*resource.TerminalError](err); !terminal {
			t.Errorf("%s: %v, want a terminal error", name, err)
		}
	}
	expect(t, s)
}

func cancelled(t *testing.T, s ledger.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.List(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("list: %v, want cancelled", err)
	}
	errs := s.Commit(ctx, []ledger.Op{ledger.Claim(entry("k", "a", "", 0))})
	if len(errs) != 1 || !errors.Is(errs[0], context.Canceled) {
		t.Errorf("commit: %v, want cancelled", errs)
	}
	expect(t, s)
}

// race: of many that claim the same key at once, one has it.
func race(t *testing.T, s ledger.Store) {
	var mu sync.Mutex
	winners := map[string][]string{}
	var wg sync.WaitGroup
	for i := range 16 {
		owner := fmt.Sprintf("owner%02d", i)
		wg.Go(func() {
			for slot := range 8 {
				key := fmt.Sprintf("slot/%d", slot)
				if s.Commit(t.Context(), []ledger.Op{ledger.Claim(entry(key, owner, "", 0))})[0] == nil {
					mu.Lock()
					winners[key] = append(winners[key], owner)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	claims, _ := list(t, s)
	if len(claims) != 8 {
		t.Fatalf("%d claims, want 8", len(claims))
	}
	for _, c := range claims {
		if diff := cmp.Diff([]string{c.Owner}, winners[c.Key]); diff != "" {
			t.Errorf("%s: who was told so (-want +got):\n%s", c.Key, diff)
		}
	}
}

// watch: a change notifies, also one that came right after the watch began.
func watch(t *testing.T, s ledger.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	events, done := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		done <- s.Watch(ctx, func() {
			select {
			case events <- struct{}{}:
			default:
			}
		})
	}()
	deadline := time.After(patience)
	for i := 0; ; i++ { // until the watch has begun
		commit(t, s, ledger.Claim(entry(fmt.Sprintf("k%d", i), "a", "", 0)))
		select {
		case <-events:
			cancel()
			if err := <-done; err != nil {
				t.Errorf("watch ended with %v", err)
			}
			return
		case <-deadline:
			t.Fatal("no event")
		case <-time.After(time.Millisecond):
		}
	}
}

func copies(t *testing.T, s ledger.Store) {
	commit(t, s, ledger.Claim(entry("k", "a", "", 0)))
	claims, _ := list(t, s)
	claims[0].Owner = "somebody else"
	expect(t, s, entry("k", "a", "", 0))
}
