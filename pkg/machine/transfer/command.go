package transfer

import (
	"bufio"
	"fmt"
	"io"
	"os"

	"tekton.host/pkg/machine/handover"
)

const (
	packWord   = "pack"
	unpackWord = "unpack"
)

// PackCommand is what prints the tar stream of a path in a machine.
func PackCommand(name string) []string { return []string{handover.InitPath, packWord, name} }

// UnpackCommand is what writes the tar stream of its input to a path in a machine,
// as Unpack does. Without a base it is understood by machines of every version.
func UnpackCommand(name, base string) []string {
	command := []string{handover.InitPath, unpackWord, name}
	if base != "" {
		command = append(command, base)
	}
	return command
}

// Main runs in a machine what the arguments after the program's name ask for;
// ours is false when they are not for it.
func Main(args []string) (code int, ours bool) {
	var err error
	switch {
	case len(args) == 2 && args[0] == packWord:
		out := bufio.NewWriterSize(os.Stdout, 64<<10)
		err = Pack(out, args[1], func(name, why string) { fmt.Fprintf(os.Stderr, "%s: %s\n", name, why) })
		if err == nil {
			err = out.Flush()
		}
	case (len(args) == 2 || len(args) == 3) && args[0] == unpackWord:
		base := ""
		if len(args) == 3 {
			base = args[2]
		}
		if err = Unpack(os.Stdin, args[1], base); err == nil {
			_, err = io.Copy(io.Discard, os.Stdin) // what fills the last block up
		}
	default:
		return 0, false
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return 0, true
}
