// Command tekton-supervise supervises the process of one directory; see
// package tekton.host/pkg/supervise. The daemon starts it, nobody else.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"tekton.host/pkg/supervise/supervisor"
)

func main() {
	// There is one of these for every machine: memory counts, speed does not.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(20)
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: tekton-supervise DIR")
		os.Exit(2)
	}
	if err := supervisor.Run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "tekton-supervise:", err)
		os.Exit(1)
	}
}
