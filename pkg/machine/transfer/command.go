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

// UnpackCommand is what writes the tar stream of its input to a path in a machine.
func UnpackCommand(name string) []string { return []string{handover.InitPath, unpackWord, name} }

// Main runs in a machine what the arguments after the program's name ask for;
// ours is false when they are not for it.
func Main(args []string) (code int, ours bool) {
	if len(args) != 2 || (args[0] != packWord && args[0] != unpackWord) {
		return 0, false
	}
	var err error
	if args[0] == packWord {
		out := bufio.NewWriterSize(os.Stdout, 64<<10)
		err = Pack(out, args[1], func(name, why string) { fmt.Fprintf(os.Stderr, "%s: %s\n", name, why) })
		if err == nil {
			err = out.Flush()
		}
	} else if err = Unpack(os.Stdin, args[1]); err == nil {
		_, err = io.Copy(io.Discard, os.Stdin) // what fills the last block up
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return 0, true
}
