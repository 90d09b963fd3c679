// Command tekton-init is the first process inside a machine. It is started by
// tekton-launch through systemd-nspawn and is of no use otherwise.
package main

import (
	"fmt"
	"os"

	"tekton.host/pkg/machine/guest"
)

func main() {
	err := guest.Run()
	fmt.Fprintln(os.Stderr, "tekton-init:", err)
	os.Exit(guest.Code(err))
}
