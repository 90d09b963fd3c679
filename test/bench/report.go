package main

import (
	"fmt"
	"slices"
	"time"
)

// sample is a series of measurements of one thing.
type sample []time.Duration

func (s sample) median() time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	if len(sorted) == 0 {
		return 0
	}
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

func (s sample) String() string {
	return fmt.Sprintf("%s (%s–%s)", ms(s.median()), ms(slices.Min(s)), ms(slices.Max(s)))
}

func ms(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= 100*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// line prints one result with its aim, and what dominates it when it misses.
func line(what, result string, met bool, aim, dominates string) {
	verdict := "met"
	if !met {
		verdict = "MISSED: " + dominates
	}
	if aim == "" {
		fmt.Printf("%-42s %s\n", what, result)
		return
	}
	fmt.Printf("%-42s %s   aim %s: %s\n", what, result, aim, verdict)
}

func note(format string, args ...any) { fmt.Printf("    "+format+"\n", args...) }
