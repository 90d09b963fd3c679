// Command tekton-init is the first process inside a machine. It is started by
// tekton-launch through systemd-nspawn and is of no use otherwise. With the
// argument "enter" it executes the arguments that follow in the environment of
// the machine's command: `tekton exec` does that. With "pack" and "unpack" it
// copies files: `tekton cp` does that.
package main

import (
	"fmt"
	"os"

	"tekton.host/pkg/host"
	"tekton.host/pkg/machine/guest"
	"tekton.host/pkg/machine/transfer"
)

func main() {
	if code, ours := transfer.Main(os.Args[1:]); ours {
		os.Exit(code)
	}
	run := guest.Run
	if len(os.Args) > 1 && os.Args[1] == "enter" {
		run = func() error { return guest.Enter(os.Args[2:]) }
	}
	err := host.NoDump()
	if err == nil {
		err = run()
	}
	fmt.Fprintln(os.Stderr, "tekton-init:", err)
	os.Exit(guest.Code(err))
}
