package cli

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCommand is for installers: the pages are those of this very program.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages of all commands into a directory",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.Long += "\n\n" + exitCodeTable()
			everyCommand(root, func(c *cobra.Command) { c.DisableAutoGenTag = true })
			// Its date is that of $SOURCE_DATE_EPOCH, if there is one.
			return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "tekton", Manual: "tekton"}, args[0])
		},
	}
}

func everyCommand(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		everyCommand(sub, do)
	}
}
