// Command tekton-launch builds a machine's root in a mount namespace of its own
// and becomes systemd-nspawn. The machine's supervisor starts it.
package main

import (
	"flag"
	"fmt"
	"os"

	"tekton.host/pkg/host"
	"tekton.host/pkg/machine/launch"
)

func main() {
	launch.Carry()
	var o launch.Options
	flag.StringVar(&o.Init, "init", "", "tekton-init `program`")
	flag.StringVar(&o.Volumes, "volumes", "", "`directory` of the volumes")
	flag.StringVar(&o.Nspawn, "nspawn", "/usr/bin/systemd-nspawn", "systemd-nspawn `program`")
	flag.BoolVar(&o.Seccomp, "seccomp", true, "keep systemd-nspawn's system call filter")
	flag.Parse()
	o.Dir = flag.Arg(0)
	if o.Dir == "" || o.Init == "" || o.Volumes == "" {
		fmt.Fprintln(os.Stderr, "usage: tekton-launch --init=PROGRAM --volumes=DIRECTORY MACHINE_DIRECTORY")
		os.Exit(2)
	}
	err := host.NoDump()
	if err == nil {
		err = launch.Run(o)
	}
	fmt.Fprintln(os.Stderr, "tekton-launch:", err)
	os.Exit(launch.Code(err))
}
