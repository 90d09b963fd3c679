package git

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tekton.host/pkg/source/git/gittest"
	"tekton.host/pkg/spec"
)

// BenchmarkOneOfManyFiles changes one of 5,000 spec files. In the same run it
// measures what a script does: fetch, move a work tree, read all files of it.
func BenchmarkOneOfManyFiles(b *testing.B) {
	const many = 5000
	r := gittest.New(b)
	content := func(i, generation int) string {
		return fmt.Sprintf("apiVersion: tekton.host/v1alpha1\nkind: Container\nmetadata: {name: web%d}\nspec:\n  system: {host: true}\n  command: [serve, generation-%d]\n"+
			"  routes: [{host: web%d.example.org, port: 8080}]\n", i, generation, i)
	}
	name := func(i int) string { return fmt.Sprintf("web%04d.yaml", i) }
	for i := range many {
		r.Write(name(i), content(i, 0))
	}
	r.Push(nil)
	srv := gittest.Serve(b, r)
	o, _ := options(b, srv.Address())
	decoded := 0
	o.Decode = func(file string, data []byte) ([]spec.Object, []spec.Problem) {
		decoded++
		return spec.Decode(file, data, spec.Options{})
	}
	s := open(b, o)
	begin := time.Now()
	if snap, err := look(b, s); err != nil || len(snap.Objects) != many {
		b.Fatalf("%d objects, %v", len(snap.Objects), err)
	}
	first := time.Since(begin)
	tree := filepath.Join(gittest.Dir(b), "tree")
	r.Run("", "clone", "--quiet", "--depth=1", srv.Address(), tree)

	var ours, script, idle time.Duration
	n := 0
	for b.Loop() {
		n++
		b.StopTimer()
		r.Push(map[string]string{name(n % many): content(n%many, n)})
		decoded = 0
		b.StartTimer()
		begin := time.Now()
		if _, err := look(b, s); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(begin)
		b.StopTimer()
		if decoded != 1 {
			b.Fatalf("%d files were decoded for one that changed", decoded)
		}
		script += scripted(b, r, tree, many)
		begin = time.Now()
		if _, err := look(b, s); err != nil {
			b.Fatal(err)
		}
		idle += time.Since(begin)
		b.StartTimer()
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(first), "ms-all-files")
	b.ReportMetric(ms(ours)/float64(n), "ms-one-changed")
	b.ReportMetric(ms(idle)/float64(n), "ms-unchanged")
	b.ReportMetric(ms(script)/float64(n), "ms-script")
	b.ReportMetric(float64(ours)/float64(script), "×script")
	b.ReportMetric(float64(ours)/float64(n)/float64(first), "×all-files")
}

// scripted is the time of a fetch into a work tree and a look at all files.
func scripted(b *testing.B, r *gittest.Remote, tree string, many int) time.Duration {
	b.Helper()
	begin := time.Now()
	r.Run("", "-C", tree, "fetch", "--quiet", "--depth=1", "origin", "main")
	r.Run("", "-C", tree, "reset", "--quiet", "--hard", "FETCH_HEAD")
	files, err := filepath.Glob(filepath.Join(tree, "*.yaml"))
	if err != nil || len(files) != many {
		b.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			b.Fatal(err)
		}
		if objects, _ := spec.Decode(f, data, spec.Options{}); len(objects) != 1 {
			b.Fatalf("%s: %d objects", f, len(objects))
		}
	}
	return time.Since(begin)
}
