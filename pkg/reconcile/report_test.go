package reconcile

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/source"
	"tekton.host/pkg/spec"
)

// impatient is a context that is given up after it was asked so many times.
type impatient struct {
	context.Context
	asked, patience int
}

func (i *impatient) Err() error {
	if i.asked++; i.asked > i.patience {
		return context.Canceled
	}
	return nil
}

// A plan that nobody waits for any more takes one more pass at most, whenever
// it is given up.
func TestReportIsGivenUp(t *testing.T) {
	s := newSim(t)
	s.put("web.yaml", web("web"))
	whole := &impatient{Context: context.Background(), patience: 1000}
	if _, err := Report(whole, s.conf, s.facts()); err != nil {
		t.Fatal(err)
	}
	if whole.asked < 5 {
		t.Fatalf("a plan of many passes looked %d times whether anybody waits for it", whole.asked)
	}
	for patience := range whole.asked {
		early := &impatient{Context: context.Background(), patience: patience}
		if _, err := Report(early, s.conf, s.facts()); !errors.Is(err, context.Canceled) || early.asked != patience+1 {
			t.Errorf("given up after %d passes: %v, %d looks; want an end at once", patience, err, early.asked)
		}
	}
}

// A document takes the place of the one that counts, and of no other.
func TestOverlay(t *testing.T) {
	s := newSim(t)
	s.conf.Host.Sources = []v1alpha1.SourceConfig{{Name: "first"}, {Name: "second"}, {Name: "third"}}
	f := Facts{Snapshots: map[string]source.Snapshot{
		"second": {Objects: []spec.Object{object("second.yaml", 0, web("web")), object("second.yaml", 1, web("other"))}},
		"third":  {Objects: []spec.Object{object("third.yaml", 0, web("web"))}}, // a duplicate, and told as one
	}}
	out := Overlay(f, s.conf, []spec.Object{object("one.yaml", 0, web("web")), object("two.yaml", 0, web("web")), object("new.yaml", 0, web("new"))})
	got := map[string]string{}
	for _, c := range s.conf.Host.Sources {
		for _, o := range out.Snapshots[c.Name].Objects {
			got[c.Name] += fmt.Sprintf("%s of %s; ", o.Meta().Name, o.Position.File)
		}
	}
	want := map[string]string{
		"first": "new of new.yaml; ", "second": "other of second.yaml; web of two.yaml; ", "third": "web of third.yaml; ",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if n := len(f.Snapshots["second"].Objects); n != 2 || f.Snapshots["second"].Objects[0].Position.File != "second.yaml" {
		t.Errorf("the published facts were changed: %v", f.Snapshots["second"].Objects)
	}
}

// BenchmarkReport measures the plan of so many new objects.
func BenchmarkReport(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("objects=%d", n), func(b *testing.B) {
			s := newSimIn(b, "10.96.0.0/14")
			var objects []spec.Object
			for i := range n {
				objects = append(objects, object("new.yaml", i, web(fmt.Sprintf("web-%d", i))))
			}
			facts := Overlay(s.facts(), s.conf, objects)
			for b.Loop() {
				if _, err := Report(context.Background(), s.conf, facts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
