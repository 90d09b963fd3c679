package ingress

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestQuarantine finds exactly the bad ones, whoever is trusted, and leaves
// the good ones loaded.
func TestQuarantine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bad := rapid.SliceOfN(rapid.Bool(), 0, 40).Draw(t, "bad")
		split := rapid.IntRange(0, len(bad)).Draw(t, "trusted")
		var items, wantGood, wantBad []int
		for i := range bad {
			items = append(items, i)
			if bad[i] {
				wantBad = append(wantBad, i)
			} else {
				wantGood = append(wantGood, i)
			}
		}
		var loaded []int
		loads := 0
		good, refused, err := quarantine(items[:split], items[split:], func(set []int) error {
			loads++
			for _, i := range set {
				if bad[i] {
					return &refusal{"bad"}
				}
			}
			loaded = slices.Clone(set)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var gotBad []int
		for _, r := range refused {
			gotBad = append(gotBad, r.item)
		}
		slices.Sort(gotBad)
		good, loaded = slices.Clone(good), slices.Clone(loaded)
		slices.Sort(good)
		slices.Sort(loaded)
		if d := cmp.Diff(wantGood, good); d != "" && len(wantGood)+len(good) > 0 {
			t.Fatalf("good (-want +got):\n%s", d)
		}
		if d := cmp.Diff(wantBad, gotBad); d != "" && len(wantBad)+len(gotBad) > 0 {
			t.Fatalf("refused (-want +got):\n%s", d)
		}
		if d := cmp.Diff(good, loaded); d != "" && len(good)+len(loaded) > 0 {
			t.Fatalf("loaded last (-good +loaded):\n%s", d)
		}
		if len(wantBad) == 0 && loads != 1 {
			t.Fatalf("%d loads of a good configuration, want 1", loads)
		}
	})
}

func TestQuarantineEndsOnOtherErrors(t *testing.T) {
	gone := errors.New("gone")
	for fails := range 4 {
		n := 0
		_, _, err := quarantine([]int{1, 2}, []int{3, 4}, func([]int) error {
			if n++; n > fails {
				return gone
			}
			return &refusal{"no"}
		})
		if !errors.Is(err, gone) && fails < 3 {
			t.Errorf("after %d refusals: %v, want %v", fails, err, gone)
		}
	}
	_, _, err := quarantine(nil, []int{1}, func([]int) error { return &refusal{"always"} })
	if !isRefusal(err) {
		t.Errorf("nothing is accepted, not even the empty set: %v", err)
	}
}
