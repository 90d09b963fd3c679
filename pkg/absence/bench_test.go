package absence_test

import (
	"testing"

	"tekton.host/pkg/absence"
	"tekton.host/pkg/source"
)

// BenchmarkConverged is what a pass over 1,000 objects pays here.
func BenchmarkConverged(b *testing.B) {
	names := numbered(1000)
	in := absence.Input{
		Sources: []absence.Source{{Name: "local"}}, Known: known(names...),
		Snapshots: map[string]source.Snapshot{"local": snapshot(0, each(names...))},
	}
	for b.Loop() {
		absence.Judge(in)
		absence.Resolve(in.Sources, in.Snapshots, in.Known)
	}
}
