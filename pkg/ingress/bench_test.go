package ingress

import (
	"fmt"
	"testing"

	"tekton.host/pkg/resource"
)

// BenchmarkChange: one route changes among N, from the step to the answer of
// the new backend. Each host has one route; "paths": three.
func BenchmarkChange(b *testing.B) {
	for _, mode := range []resource.TLSMode{resource.TLSOff, resource.TLSInternal} {
		for _, n := range []int{1, 10, 100, 1000} {
			b.Run(fmt.Sprintf("tls=%s/hosts=%d", mode, n), func(b *testing.B) { benchmarkChange(b, n, mode, "/") })
		}
	}
	b.Run("paths/hosts=100", func(b *testing.B) { benchmarkChange(b, 100, resource.TLSOff, "/", "/api", "/static") })
}

func benchmarkChange(b *testing.B, n int, mode resource.TLSMode, paths ...string) {
	r := newRig(b)
	one, two := backend(b, "one"), backend(b, "two")
	steps := []resource.Step{put(r.proxy)}
	for i := range n {
		for _, p := range paths {
			steps = append(steps, put(route(fmt.Sprintf("w%d.example.org", i), p, one, secured(mode))))
		}
	}
	r.must(steps...)
	r.must(put(route("new.example.org", "/", one)))
	for i := 0; b.Loop(); i++ {
		to, name := two, "two"
		if i%2 == 1 {
			to, name = one, "one"
		}
		r.must(put(route("new.example.org", "/", to)))
		wantBody(b, "new.example.org/", name)
	}
}

// BenchmarkObserve: a pass over N converged routes.
func BenchmarkObserve(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("hosts=%d", n), func(b *testing.B) {
			r := newRig(b)
			web := backend(b, "web")
			steps := []resource.Step{put(r.proxy)}
			for i := range n {
				steps = append(steps, put(route(fmt.Sprintf("w%d.example.org", i), "/", web)))
			}
			r.must(steps...)
			for b.Loop() {
				if got := len(r.observed(resource.KindRoute)); got != n {
					b.Fatalf("%d routes, want %d", got, n)
				}
			}
		})
	}
}
