package cli

import (
	"io"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
)

func (a *app) logsCommand() *cobra.Command {
	var o v1alpha1.LogOptions
	var raw bool
	cmd := &cobra.Command{
		Use:               "logs NAME",
		Short:             "Print the log of an object's machine",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := a.resolveOne(cmd.Context(), args...)
			if err != nil {
				return err
			}
			log, err := a.client.Logs(cmd.Context(), ref, o)
			if err != nil {
				return err
			}
			defer log.Close()
			return a.copyLog(cmd, log, raw)
		},
	}
	cmd.Flags().BoolVarP(&o.Follow, "follow", "f", false, "go on with what comes")
	cmd.Flags().IntVar(&o.Tail, "tail", -1, "only the last lines; -1: all that is kept")
	cmd.Flags().BoolVar(&o.Previous, "previous", false, "the log of the start before this one")
	cmd.Flags().BoolVar(&o.Build, "build", false, "the log of the builds of its flake")
	cmd.MarkFlagsMutuallyExclusive("build", "previous")
	cmd.Flags().BoolVar(&raw, "raw", false, "do not escape control characters")
	return cmd
}

func (a *app) copyLog(cmd *cobra.Command, log io.Reader, raw bool) error {
	var err error
	if raw {
		_, err = io.Copy(a.out, log)
	} else {
		e := terminal.NewEscaper(a.out)
		_, err = io.Copy(e, log)
		if ferr := e.Flush(); err == nil {
			err = ferr
		}
	}
	if cerr := cmd.Context().Err(); cerr != nil {
		return cerr
	}
	return err
}
