// Command tekton-init is the first process inside a machine. It is started by
// tekton-launch through systemd-nspawn and is of no use otherwise. With the
// argument "enter" it executes the arguments that follow in the environment of
// the machine's command: `tekton exec` does that. With "work" it does a piece of
// a setup, with "pack" and "unpack" it copies files: `tekton cp` does that.
package main

import (
	"fmt"
	"os"
	"runtime"

	"tekton.host/pkg/host"
	"tekton.host/pkg/machine/guest"
	"tekton.host/pkg/machine/transfer"
)

// The first thread executes the machine's command. Were it another one, the
// process would look ended for a moment, and have no namespaces to be entered:
// its first thread ends before the other one takes its place.
func init() { runtime.LockOSThread() }

func main() {
	if code, ours := transfer.Main(os.Args[1:]); ours {
		os.Exit(code)
	}
	run := guest.Run
	switch {
	case len(os.Args) > 1 && os.Args[1] == "enter":
		run = func() error { return guest.Enter(os.Args[2:]) }
	case len(os.Args) > 1 && os.Args[1] == "work":
		run = func() error { return guest.Work(os.Stdin, os.Stdout) }
	}
	err := host.NoDump()
	if err == nil {
		err = run()
	}
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "tekton-init:", err)
	os.Exit(guest.Code(err))
}
