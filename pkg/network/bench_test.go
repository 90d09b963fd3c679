package network

import (
	"context"
	"fmt"
	"testing"

	"tekton.host/pkg/resource"
)

// A pass over a converged host: no change, no process.
func BenchmarkObserve(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("machines=%d", n), func(b *testing.B) {
			bed := benchBed(b)
			var eps, links []resource.Resource
			for slot := 1; slot <= n; slot++ {
				eps, links = append(eps, bed.endpoint(slot, nil)), append(links, bed.link(slot))
			}
			bed.put(eps...)
			bed.put(links...)
			b.ResetTimer()
			for b.Loop() {
				bed.Observe(context.Background())
			}
		})
	}
}

// One start's steps, as the engine applies them one after the other.
func BenchmarkStart(b *testing.B) {
	pid := 0
	for _, step := range []string{"endpoint", "link", "attachment"} {
		b.Run(step, func(b *testing.B) {
			bed := benchBed(b)
			pid = newMachine(b)
			of := map[string]resource.Resource{"endpoint": bed.endpoint(1, nil), "link": bed.link(1), "attachment": bed.attachment(1, pid)}
			for b.Loop() {
				b.StopTimer()
				bed.delete(of["link"], of["endpoint"])
				for _, before := range []string{"endpoint", "link"} {
					if before == step {
						break
					}
					bed.put(of[before])
				}
				b.StartTimer()
				bed.put(of[step])
			}
		})
	}
}

func BenchmarkBatch(b *testing.B) {
	for _, n := range []int{50, 100} {
		var bed bed
		all := func(of func(int) resource.Resource) (rs []resource.Resource) {
			for slot := 1; slot <= n; slot++ {
				rs = append(rs, of(slot))
			}
			return rs
		}
		endpoint := func(slot int) resource.Resource { return bed.endpoint(slot, nil) }
		link := func(slot int) resource.Resource { return bed.link(slot) }
		for _, c := range []struct {
			name string
			of   func(int) resource.Resource
			verb resource.Verb
		}{
			{"endpoints/put", endpoint, resource.Put}, {"endpoints/delete", endpoint, resource.Delete},
			{"links/put", link, resource.Put}, {"links/delete", link, resource.Delete},
		} {
			b.Run(fmt.Sprintf("%s=%d", c.name, n), func(b *testing.B) {
				bed = benchBed(b)
				rs := all(c.of)
				for b.Loop() {
					b.StopTimer()
					bed.do(opposite(c.verb), rs...)
					b.StartTimer()
					bed.do(c.verb, rs...)
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "things/s")
			})
		}
	}
}

func opposite(v resource.Verb) resource.Verb {
	if v == resource.Put {
		return resource.Delete
	}
	return resource.Put
}

func benchBed(b *testing.B) bed {
	bed := newBed(b, "t", "10.87.0.0/16")
	bed.put(bed.standard()...)
	return bed
}
