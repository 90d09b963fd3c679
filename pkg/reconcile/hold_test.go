package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tekton.host/pkg/absence"
	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

var errCrashed = errors.New("the daemon is dead")

// mortal is an engine that dies at a step and is followed by another one,
// which knows what the ledger, the host and the remembered state say.
type mortal struct {
	*rig
	dieAt int // before this step, counted from now; negative: never
	dead  chan struct{}
	kept  []byte // what Remember wrote
}

func newMortal(t *testing.T) *mortal {
	m := &mortal{rig: newRig(t), dieAt: -1}
	for _, d := range []*fakeDriver{m.machines, m.others} {
		d.before = func(context.Context, resource.Step) error { return m.step() }
	}
	m.live()
	return m
}

func (m *mortal) step() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dieAt == 0 {
		m.dieAt = -1
		close(m.dead)
	} else if m.dieAt > 0 {
		m.dieAt--
	}
	select {
	case <-m.dead:
		return errCrashed
	default:
		return nil
	}
}

// live begins a new life of the daemon.
func (m *mortal) live() {
	o := m.engine.Options
	o.Missing = absence.State{}
	if m.kept != nil {
		if err := json.Unmarshal(m.kept, &o.Missing); err != nil {
			m.t.Fatal(err)
		}
	}
	m.mu.Lock()
	m.dead = make(chan struct{})
	m.mu.Unlock()
	o.Remember = func(s absence.State) (err error) {
		select {
		case <-m.dead:
			return errCrashed
		default:
		}
		m.kept, err = json.Marshal(s)
		return err
	}
	m.engine = New(o)
	m.start()
	synctest.Wait()
}

func (m *mortal) die() {
	m.mu.Lock()
	select {
	case <-m.dead:
	default:
		close(m.dead)
	}
	m.mu.Unlock()
	m.end()
}

// machinesLeft counts the objects whose machine runs.
func (m *mortal) machinesLeft() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.world.Observe()[resource.KindUnit].Items)
}

func (m *mortal) objects(n int) []v1alpha1.Container {
	var cs []v1alpha1.Container
	for i := range n {
		c := web(fmt.Sprintf("w%02d", i))
		c.Spec.Routes = nil
		cs = append(cs, c)
	}
	return cs
}

// TestNoCrashTurnsAHoldIntoADelete: of ten objects three vanish and then three
// more; at most three may go. The daemon dies before each step that there is,
// and at each of many times, and its successor must not let more go.
func TestNoCrashTurnsAHoldIntoADelete(t *testing.T) {
	run := func(t *testing.T, gap time.Duration, dieAt int, pause time.Duration) (crashed bool) {
		synctest.Test(t, func(t *testing.T) {
			m := newMortal(t)
			all := m.objects(10)
			m.source.put(all...)
			time.Sleep(time.Minute)
			synctest.Wait()
			units := m.machinesLeft()
			m.mu.Lock()
			m.dieAt = dieAt
			m.mu.Unlock()
			m.source.put(all[3:]...)
			time.Sleep(gap)
			m.source.put(all[6:]...)
			time.Sleep(pause)
			synctest.Wait()
			select {
			case <-m.dead:
				crashed = true
			default:
			}
			m.die()
			m.live()
			time.Sleep(time.Hour)
			synctest.Wait()
			if left := m.machinesLeft(); left < units-3 {
				t.Errorf("gap %v, crash at step %d or after %v: %d of %d machines are left", gap, dieAt, pause, left, units)
			}
			m.end()
		})
		return crashed
	}
	for _, gap := range []time.Duration{0, 1990 * time.Millisecond, 2010 * time.Millisecond, 9 * time.Second} {
		for at, crashed := 0, true; crashed; at++ {
			crashed = run(t, gap, at, time.Minute)
		}
		for _, pause := range []time.Duration{0, 10 * time.Millisecond, time.Second, 1999 * time.Millisecond, 2 * time.Second, 3 * time.Second} {
			run(t, gap, -1, pause)
		}
	}
}

// TestReleaseWorksOnce: what was released goes; a release whose object came
// back instead is gone with that, and lets nothing go later.
func TestReleaseWorksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMortal(t)
		all := m.objects(5)
		see := func(want string, cs ...v1alpha1.Container) {
			t.Helper()
			m.source.put(cs...)
			time.Sleep(time.Minute)
			synctest.Wait()
			got := ""
			for _, r := range m.engine.View().Result.Sources[0].Held {
				got += r.Name + " "
			}
			if strings.TrimSpace(got) != want {
				t.Errorf("held are %q, want %q", got, want)
			}
		}
		release := func(name string) {
			i, _ := m.engine.View().Item(v1alpha1.KindContainer, name)
			key := ReleaseKey("local", i.Metadata.UID)
			r := resource.Resource{ID: resource.ID{Kind: resource.KindClaim, Name: key}, Owner: i.Metadata.UID, Value: resource.Claim{Key: key, Owner: i.Metadata.UID}}
			m.mu.Lock()
			defer m.mu.Unlock()
			if err := m.world.Apply(resource.Step{Verb: resource.Put, Resource: r}); err != nil {
				t.Error(err)
			}
		}
		see("", all...)
		see("w01 w02 w03 w04", all[0])
		// The first one is back before its release can work.
		release("w01")
		release("w02")
		m.engine.Kick()
		see("w03 w04", all[0], all[1])
		m.wantPhases(map[string]v1alpha1.Phase{"w01": v1alpha1.PhaseReady, "w02": ""})
		for _, e := range m.world.Entries() {
			if strings.HasPrefix(e.Key, releasePrefix) {
				t.Errorf("%s is still there", e.Key)
			}
		}
		see("", all...)
		see("w01 w02 w03 w04", all[0])
		m.end()
	})
}
