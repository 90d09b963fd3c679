package webhook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tekton.host/pkg/forge"
)

// TestWork: one worker a key, once more for what came meanwhile, later after an error.
func TestWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := newWork()
		var mu sync.Mutex
		var log []string
		start, busy := time.Now(), map[Key]bool{}
		fail := map[int]error{3: errors.New("no"), 4: &forge.RetryError{After: time.Minute, Limit: true, Err: errors.New("rate limit")}}
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.run(ctx, 2, func(_ context.Context, k Key) error {
				mu.Lock()
				if busy[k] {
					t.Errorf("two workers with %s", k)
				}
				busy[k] = true
				log = append(log, fmt.Sprintf("%d at %s", k.Number, time.Since(start)))
				err := fail[k.Number]
				delete(fail, k.Number)
				mu.Unlock()
				time.Sleep(100 * time.Millisecond)
				mu.Lock()
				delete(busy, k)
				mu.Unlock()
				return err
			})
		}()
		w.add(key(1))
		synctest.Wait()
		w.add(key(1))
		w.add(key(1))
		time.Sleep(time.Second)
		w.add(key(3))
		time.Sleep(3 * time.Second)
		w.add(key(4))
		time.Sleep(time.Second)
		w.add(key(5)) // the forge is left alone
		other := key(6)
		other.Forge = "forgejo"
		w.add(other)
		time.Sleep(2 * time.Minute)
		if n := w.waiting(); n != 0 {
			t.Errorf("%d keys are left", n)
		}
		cancel()
		<-done
		slices.Sort(log[len(log)-2:]) // of two at one time either may be first
		want := "[1 at 0s 1 at 100ms 3 at 1s 3 at 2.1s 4 at 4s 6 at 5s 4 at 1m4.1s 5 at 1m4.1s]"
		if got := fmt.Sprint(log); got != want {
			t.Errorf("worked\n%s, want\n%s", got, want)
		}
	})
}

// TestWorkBacksOff: from a second to minutes, and a new delivery need not wait.
func TestWorkBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWork()
		var at []time.Time
		go w.run(ctx, 1, func(context.Context, Key) error {
			at = append(at, time.Now())
			return errors.New("no")
		})
		w.add(key(1))
		time.Sleep(time.Hour)
		synctest.Wait()
		var gaps []time.Duration
		for i := 1; i < len(at); i++ {
			gaps = append(gaps, at[i].Sub(at[i-1]))
		}
		if fmt.Sprint(gaps[:4]) != "[1s 2s 4s 8s]" || gaps[len(gaps)-1] != lastRetry {
			t.Errorf("waits %v", gaps)
		}
		tried := len(at)
		w.add(key(1))
		synctest.Wait()
		if len(at) != tried+1 {
			t.Error("a new delivery waited for the retry")
		}
	})
}

// TestWorkTrouble: what the forge has trouble with waits as long as it says, and
// longer each time; the account's other keys do not.
func TestWorkTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWork()
		start, at := time.Now(), map[int][]time.Duration{}
		go w.run(ctx, 1, func(_ context.Context, k Key) error {
			at[k.Number] = append(at[k.Number], time.Since(start))
			if k.Number == 1 {
				return &forge.RetryError{After: 3 * time.Second, Err: errors.New("502 Bad Gateway")}
			}
			return nil
		})
		w.add(key(1))
		time.Sleep(time.Second)
		w.add(key(2))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got, want := fmt.Sprint(at), "map[1:[0s 3s 6s 10s 18s] 2:[1s]]"; got != want {
			t.Errorf("worked %s, want %s", got, want)
		}
	})
}
