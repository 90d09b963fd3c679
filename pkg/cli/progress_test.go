package cli

import (
	"bytes"
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
)

// A wait says every ten seconds that it goes on, and what it waits for.
func TestWaitTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		web, gone := v1alpha1.Ref{Kind: "Container", Name: "web"}, v1alpha1.Ref{Name: "gone"}
		building := v1alpha1.Item{TypeMeta: v1alpha1.TypeMeta{Kind: "Container"}, Metadata: v1alpha1.ItemMeta{Name: "web"}, Status: v1alpha1.Status{
			Phase:      v1alpha1.PhaseBuilding,
			Conditions: []v1alpha1.Condition{{Type: v1alpha1.ConditionReady, Status: v1alpha1.ConditionFalse, Reason: "Building"}},
			Build:      &v1alpha1.BuildStatus{Running: true, Done: 3, Expected: 12, Building: []string{"\x1bglibc"}},
		}}
		shop := v1alpha1.Ref{Kind: "Container", Name: "shop"}
		dumping := v1alpha1.Item{TypeMeta: v1alpha1.TypeMeta{Kind: "Container"}, Metadata: v1alpha1.ItemMeta{Name: "shop"}, Status: v1alpha1.Status{
			Phase:      v1alpha1.PhasePending,
			Conditions: []v1alpha1.Condition{{Type: v1alpha1.ConditionReady, Status: v1alpha1.ConditionFalse, Reason: "Dumping", Message: "3.1 MB written"}},
		}}
		w := &waiter{app: &app{now: time.Now}, teller: teller{err: &said}, pending: []target{{ref: web}, {ref: shop}, {ref: gone}}, items: map[v1alpha1.Ref]*v1alpha1.Item{web: &building, shop: &dumping}}
		ctx, cancel := context.WithCancel(t.Context())
		go w.tell(ctx, w.underWay)
		time.Sleep(25 * time.Second)
		cancel()
		synctest.Wait()
		want := "container/web Building [#####...............] 3/12 \\x1bglibc (10s)\ncontainer/shop Pending Dumping: 3.1 MB written (10s)\ngone is not there (10s)\n" +
			"container/web Building [#####...............] 3/12 \\x1bglibc (20s)\ncontainer/shop Pending Dumping: 3.1 MB written (20s)\ngone is not there (20s)\n"
		if diff := cmp.Diff(want, said.String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// A backup says how much of what there is, as far as that is known.
func TestMeter(t *testing.T) {
	m := (&app{err: io.Discard}).meter("reading", 100<<20)
	m.begin("state/volumes")
	m.add(25 << 20)
	began := time.Second
	for _, want := range []string{
		"reading state/volumes: [#####...............] 25M of about 100M (1s)",
		"reading databases/web: 3M of the dump written (1s)",
		"reading databases/other: 125M (1s)", // more than was thought
	} {
		if got := m.lines(began); len(got) != 1 || got[0] != want {
			t.Errorf("says %q, want %q", got, want)
		}
		if m.part == "state/volumes" {
			m.begin("databases/web")
			m.say("3M of the dump written")
		} else {
			m.begin("databases/other")
			m.add(100 << 20)
		}
	}
}
