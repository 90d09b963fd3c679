package soak_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// slack is by how much a number may differ between two moments at which the
// same objects are there. Memory differs by what the allocators keep and how
// the garbage collector was paced; threads stay for a while; two spare
// databases wait for their objects. It does not grow with the length of the soak.
func slack(name string) int {
	switch name {
	case "tektond heap KiB":
		return 1 << 10
	case "caddy heap KiB":
		return 4 << 10
	case "tektond RSS KiB", "supervisors RSS KiB":
		return 16 << 10
	case "caddy RSS KiB":
		return 32 << 10
	case "ledger KiB", "supervisors threads":
		return 40
	case "conntrack": // requests under way
		return 60
	case "caddy goroutines": // two for an idle connection, kept for 2 min, also to a machine that is gone
		return 60
	case "caddy descriptors":
		return 30
	}
	return 12
}

// growths compares the first third of samples with the last one. It returns
// lines for people, and those names that grew.
func growths(samples []sample) (table []string, grown []string) {
	third := max(1, len(samples)/3)
	for _, name := range slices.Sorted(maps.Keys(samples[0])) {
		first, last := median(samples[:third], name), median(samples[len(samples)-third:], name)
		line := fmt.Sprintf("%-24s %8d → %8d  (%+d, at most %+d)", name, first, last, last-first, slack(name))
		if last-first > slack(name) {
			grown = append(grown, name)
			line += "  GROWS: " + series(samples, name)
		}
		table = append(table, line)
	}
	return table, grown
}

func median(samples []sample, name string) int {
	var ns []int
	for _, s := range samples {
		ns = append(ns, s[name])
	}
	slices.Sort(ns)
	return ns[(len(ns)-1)/2]
}

func series(samples []sample, name string) string {
	var words []string
	for _, s := range samples {
		words = append(words, fmt.Sprint(s[name]))
	}
	return strings.Join(words, " ")
}

// TestGrowths: what leaks once a life is seen, what only varies is not.
func TestGrowths(t *testing.T) {
	var samples []sample
	for i := range 9 {
		const lives = 20 // between two samples; a soak has more
		s := sample{"leak": 300 + lives*i, "one in four": 300 + lives*i/4, "varies": 300 + i*7%10, "peak": 300, "falls": 300 - lives*i, "constant": 0}
		if i == 8 {
			s["peak"] = 900
		}
		samples = append(samples, s)
	}
	table, grown := growths(samples)
	if want := []string{"leak", "one in four"}; !slices.Equal(grown, want) {
		t.Errorf("%q grow, want %q:\n%s", grown, want, strings.Join(table, "\n"))
	}
}
