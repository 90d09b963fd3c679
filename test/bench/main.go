// Command bench compares tekton with the shell script script.sh, in one run on
// one machine: `make bench`. hack/bench.sh builds everything and starts it in
// network, mount and PID namespaces of its own. docs/performance.md tells what
// is measured and how to read it.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

// settings come from the environment, so that `make bench` passes them on.
type settings struct {
	bin  string // directory of the built programs
	dir  string // scratch, on a file system that can hold overlays
	many int    // BENCH_N: machines at once
	runs int    // BENCH_RUNS: of each side, interleaved
	big  int    // BENCH_OBJECTS: objects while memory and idleness are measured
	idle time.Duration
	only string // BENCH_ONLY: one of one, many, agent, preview, route, whole, idle
}

func main() {
	if len(os.Args) == 5 && os.Args[1] == "idmap" {
		exit(idmap(os.Args[2], os.Args[3], os.Args[4]))
	}
	s := settings{
		bin: os.Getenv("BENCH_BIN"), dir: os.Getenv("BENCH_DIR"), only: os.Getenv("BENCH_ONLY"),
		many: number("BENCH_N", 50), runs: number("BENCH_RUNS", 7), big: number("BENCH_OBJECTS", 100),
		idle: time.Duration(number("BENCH_IDLE", 60)) * time.Second,
	}
	exit(run(s))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func number(name string, otherwise int) int {
	n, err := strconv.Atoi(os.Getenv(name))
	if err != nil || n < 1 {
		return otherwise
	}
	return n
}

func run(s settings) error {
	b, err := newBench(s)
	if err != nil {
		return err
	}
	defer b.close()
	for _, part := range []struct {
		name    string
		measure func() error
	}{
		{"one", func() error { return b.compare(1, b.httpd(), 1.25) }},
		{"many", func() error { return b.compare(s.many, b.httpd(), 1.2) }},
		{"agent", b.agents},
		{"preview", b.previews},
		{"route", b.routes},
		{"whole", b.whole},
		{"idle", b.idle},
	} {
		if s.only != "" && s.only != part.name {
			continue
		}
		if err := part.measure(); err != nil {
			return fmt.Errorf("%s: %w; the daemon's log ends:\n%s", part.name, err, b.daemon.logTail())
		}
	}
	return nil
}
