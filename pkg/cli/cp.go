package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
	"tekton.host/pkg/host"
	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/machine/transfer"
	"tekton.host/pkg/server/wire"
)

func (a *app) cpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cp [NAME:]PATH [NAME:]PATH",
		Short: "Copy files and directories into, out of and between machines",
		Long: "Copy a file, or a directory with all below it, into a machine, out of one, or from one\n" +
			"to another. Into a directory that is there; else the copy gets the second path's name.\n" +
			"Permissions and times are kept; the copy belongs to whoever writes it, in a machine to\n" +
			"its root. A path here that looks like NAME:PATH is written ./NAME:PATH.",
		Example: "  tekton cp web:/var/log/nginx ./logs\n  tekton cp site/ web:/srv\n  tekton cp old:/data new:/",
		Args:    cobra.ExactArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			names, _ := a.completeRefs(cmd, nil, typed)
			for i := range names {
				names[i] += ":"
			}
			return names, cobra.ShellCompDirectiveNoSpace
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := a.parsePlace(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			to, err := a.parsePlace(cmd.Context(), args[1])
			if err != nil {
				return err
			}
			if from.ref == nil && to.ref == nil {
				return usage("neither path is in a machine: NAME:PATH")
			}
			return a.copyFiles(cmd.Context(), from, to)
		},
	}
}

// place is a path in a machine, or here.
type place struct {
	ref  *v1alpha1.Ref
	path string
}

func (a *app) parsePlace(ctx context.Context, text string) (place, error) {
	name, inside, remote := strings.Cut(text, ":")
	if text == "" || (remote && inside == "") {
		return place{}, usage("%q lacks a path", text)
	}
	if !remote || strings.HasPrefix(name, "/") || strings.HasPrefix(name, ".") {
		return place{path: text}, nil
	}
	ref, err := a.resolveOne(ctx, name)
	return place{&ref, inside}, err
}

// copyName is what a copy is called in a directory. Of what is in a machine only
// the asked path says that: what the machine prints could name .bashrc there.
// What is packed here has its own name, also for ".".
func (p place) copyName() string {
	if p.ref == nil {
		return ""
	}
	if base := path.Base(path.Join("/", p.path)); base != "/" {
		return base
	}
	return "root"
}

// copyFiles lets both ends work. What one fails of is told, not what the other
// makes of that.
func (a *app) copyFiles(ctx context.Context, from, to place) error {
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := a.pack(ctx, from, w)
		w.CloseWithError(err)
		packed <- err
	}()
	err := a.unpack(ctx, to, r, from.copyName())
	r.Close()
	if errPack := <-packed; errPack != nil && !errors.Is(errPack, io.ErrClosedPipe) {
		return errPack
	}
	return err
}

func (a *app) pack(ctx context.Context, from place, w io.Writer) error {
	if from.ref == nil {
		return transfer.Pack(w, from.path, func(name, why string) { a.warn("%s %s", name, why) })
	}
	return a.runTransfer(ctx, *from.ref, transfer.PackCommand(from.path), client.Streams{Stdout: w})
}

func (a *app) unpack(ctx context.Context, to place, r io.Reader, base string) error {
	if to.ref == nil {
		return transfer.Unpack(r, to.path, base)
	}
	return a.runTransfer(ctx, *to.ref, transfer.UnpackCommand(to.path, base), client.Streams{Stdin: r, Stdout: io.Discard})
}

// complaintMax bounds what is kept of what a machine's end complains about.
const complaintMax = 16 << 10

// runTransfer runs the machine's end. What it says is a warning, or the error.
func (a *app) runTransfer(ctx context.Context, ref v1alpha1.Ref, command []string, s client.Streams) error {
	said := &host.Beginning{Max: complaintMax}
	s.Stderr = said
	code, err := a.client.Exec(ctx, ref, wire.ExecRequest{Command: command}, s)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	last := lines[len(lines)-1]
	if code != 0 {
		lines = lines[:len(lines)-1]
	}
	for _, line := range lines {
		if line != "" {
			a.warn("%s: %s", ref, terminal.Escape(line))
		}
	}
	switch code {
	case 0:
		return nil
	case exitNotStarted, 126, 127: // its first program does not know the word, or is not there
		err := fmt.Errorf("the machine of %s was not started by this version, which copies with a program of its own inside: %s", ref, last)
		return &exit{code: exitError, err: err, next: "start it anew: tekton restart " + ref.String() + ", or pass tar through tekton exec"}
	}
	return fmt.Errorf("in %s: %s", ref, last)
}
