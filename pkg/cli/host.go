package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/server/wire"
	"tekton.host/pkg/why"
)

func (a *app) restartCommand() *cobra.Command {
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:               "restart NAME...",
		Short:             "Start objects' machines anew",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeRefs,
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until they are Ready again")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultWait, "how long --wait waits")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		refs, err := a.resolve(cmd.Context(), args)
		if err != nil {
			return err
		}
		items, err := a.client.List(cmd.Context())
		if err != nil {
			return err
		}
		var failures []error
		var targets []target
		for _, ref := range refs {
			if err := a.client.Restart(cmd.Context(), ref); err != nil {
				failures = append(failures, err)
				continue
			}
			a.say("%s restarting", ref)
			targets = append(targets, target{ref: ref, done: restarted(ref, items)})
		}
		if wait {
			failures = append(failures, a.await(cmd.Context(), timeout, targets))
		}
		return joinErrors(failures)
	}
	return cmd
}

// restarted judges whether an object is Ready by another start than it had among
// items: what it was asked for shows only after a moment.
func restarted(ref v1alpha1.Ref, items []v1alpha1.Item) func(*v1alpha1.Item) (bool, error) {
	var before time.Time
	for _, item := range items {
		if matches(ref, item) {
			before = item.Status.StartedAt
		}
	}
	return func(item *v1alpha1.Item) (bool, error) {
		if item == nil || item.Status.StartedAt.Equal(before) {
			return false, nil
		}
		c := why.Condition(*item, v1alpha1.ConditionReady)
		return c != nil && c.Status == v1alpha1.ConditionTrue, nil
	}
}

func (a *app) releaseDeletesCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "release-deletes SOURCE",
		Short:             "Let the deletions happen that a source holds, once",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeSources,
		RunE: func(cmd *cobra.Command, args []string) error {
			released, err := a.client.ReleaseDeletes(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			for _, r := range released {
				a.say("%s released", r)
			}
			if len(released) == 0 {
				fmt.Fprintf(a.err, "Source %s holds nothing.\n", terminal.Escape(args[0]))
			}
			return nil
		},
	}
}

func (a *app) secretCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "secret", Short: "Set, list and delete the host's secrets"}
	var exact bool
	set := &cobra.Command{
		Use:     "set NAME",
		Short:   "Set a secret to what standard input says",
		Long:    "Set a secret to what standard input says, without its last line end. At a\nterminal it is asked for without echo.",
		Example: "  tekton secret set token < token.txt",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			value, err := a.secretValue(args[0], exact)
			if err != nil {
				return err
			}
			if err := a.client.SetSecret(cmd.Context(), args[0], value); err != nil {
				return err
			}
			a.say("secret/%s set", args[0])
			return nil
		},
	}
	set.Flags().BoolVar(&exact, "exact", false, "keep the last line end")
	list := &cobra.Command{Use: "list", Short: "List secrets and who uses them; never their values", Args: cobra.NoArgs}
	output := formatFlag(list, asJSON, asYAML, asName)
	list.RunE = func(cmd *cobra.Command, _ []string) error { return a.listSecrets(cmd, output) }
	del := &cobra.Command{
		Use: "delete NAME...", Short: "Delete secrets", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeSecrets,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, "secret/%s deleted", func(name string) error { return a.client.DeleteSecret(cmd.Context(), name) })
		},
	}
	cmd.AddCommand(set, list, del)
	return cmd
}

// each does something to each name and goes on after errors.
func (a *app) each(names []string, done string, do func(string) error) error {
	var failures []error
	for _, name := range names {
		if err := do(name); err != nil {
			failures = append(failures, err)
			continue
		}
		a.say(done, name)
	}
	return joinErrors(failures)
}

func (a *app) secretValue(name string, exact bool) ([]byte, error) {
	if f, ok := a.in.(*os.File); ok && isTTY(f) {
		fmt.Fprintf(a.err, "Value of secret %s: ", terminal.Escape(name))
		value, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(a.err)
		return value, err
	}
	value, err := io.ReadAll(io.LimitReader(a.in, wire.MaxSecret+2))
	if err != nil {
		return nil, fmt.Errorf("read the secret from standard input: %w", err)
	}
	if !exact {
		value = bytes.TrimSuffix(bytes.TrimSuffix(value, []byte("\n")), []byte("\r"))
	}
	if len(value) == 0 {
		return nil, errors.New("standard input is empty: a secret needs a value")
	}
	return value, nil
}

func (a *app) listSecrets(cmd *cobra.Command, output func() (format, error)) error {
	f, err := output()
	if err != nil {
		return err
	}
	secrets, err := a.client.ListSecrets(cmd.Context())
	if err != nil {
		return err
	}
	switch f {
	case asJSON, asYAML:
		return a.write(f, listOf(secrets))
	case asName:
		for _, s := range secrets {
			a.say("%s", s.Name)
		}
		return nil
	}
	var rows [][]terminal.Cell
	for _, s := range secrets {
		var users []string
		for _, r := range s.UsedBy {
			users = append(users, r.String())
		}
		rows = append(rows, []terminal.Cell{terminal.Text(s.Name), terminal.Text(strings.Join(users, ",")), terminal.Text(terminal.Since(s.UpdatedAt, a.now()))})
	}
	a.table([]string{"NAME", "USED BY", "AGE"}, rows)
	return nil
}

func (a *app) dataCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "data", Short: "List, restore and delete volumes and databases"}
	list := &cobra.Command{Use: "list", Short: "List volumes and databases, also of objects that are gone", Args: cobra.NoArgs}
	output := formatFlag(list, asJSON, asYAML, asName)
	list.RunE = func(cmd *cobra.Command, _ []string) error { return a.listData(cmd, output) }
	restore := &cobra.Command{
		Use: "restore ID...", Short: "Take data out of the trash", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeData,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, "%s restored", func(id string) error { return a.client.RestoreData(cmd.Context(), id) })
		},
	}
	del := &cobra.Command{
		Use: "delete ID...", Short: "Delete data that no object uses, for good", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeData,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, "%s deleted", func(id string) error { return a.client.DeleteData(cmd.Context(), id) })
		},
	}
	cmd.AddCommand(list, restore, del)
	return cmd
}

func (a *app) listData(cmd *cobra.Command, output func() (format, error)) error {
	f, err := output()
	if err != nil {
		return err
	}
	items, err := a.client.ListData(cmd.Context())
	if err != nil {
		return err
	}
	switch f {
	case asJSON, asYAML:
		return a.write(f, listOf(items))
	case asName:
		for _, d := range items {
			a.say("%s", d.ID)
		}
		return nil
	}
	var rows [][]terminal.Cell
	for _, d := range items {
		size := ""
		if d.Size > 0 {
			size = terminal.Bytes(d.Size)
		}
		state := terminal.Cell{Text: string(d.State), Paint: a.data.Green}
		if d.State != v1alpha1.DataInUse {
			state.Paint = a.data.Yellow
		}
		rows = append(rows, []terminal.Cell{
			terminal.Text(d.ID), terminal.Text(d.Owner.String()), terminal.Text(string(d.What)), terminal.Text(d.Name),
			state, terminal.Text(size), terminal.Text(a.timestamp(d.DeletedAt)), terminal.Text(a.timestamp(d.ExpiresAt)),
		})
	}
	a.table([]string{"ID", "OWNER", "WHAT", "NAME", "STATE", "SIZE", "DELETED", "GONE"}, rows)
	for _, d := range items {
		if d.Message != "" {
			a.warn("%s: %s", d.ID, d.Message)
		}
	}
	return nil
}
