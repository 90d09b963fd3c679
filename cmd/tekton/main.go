// Command tekton shows and changes what the daemon of this host does.
package main

import (
	"context"
	"os"

	"tekton.host/pkg/cli"
	"tekton.host/pkg/machine/launch"
)

func main() {
	launch.Carry() // doctor tries whether ids can be mapped
	os.Exit(cli.Run(context.Background(), cli.Options{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
	}))
}
