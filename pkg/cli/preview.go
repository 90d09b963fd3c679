package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/preview"
	"tekton.host/pkg/server/wire"
	"tekton.host/pkg/spec"
	"tekton.host/pkg/why"
)

// previewCommand is for people who think in previews: each command writes,
// changes, removes or shows specs.
func (a *app) previewCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "preview", Short: "Show branches and pull requests of repositories under URLs of their own"}
	destroy := a.destroyCommand(v1alpha1.KindPreview, "Delete previews; says what happens to their data")
	cmd.AddCommand(a.previewCreateCommand(), a.previewUpdateCommand(), a.previewRollbackCommand(), a.previewBuildCommand(), destroy, a.previewListCommand(), a.previewLogsCommand())
	return cmd
}

func (a *app) previewCreateCommand() *cobra.Command {
	p := v1alpha1.Preview{TypeMeta: v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindPreview}}
	var secrets, variables []string
	var refresh, ttl, sleepAfter time.Duration
	cmd := &cobra.Command{
		Use:   "create URL [BRANCH]",
		Short: "Write the spec of a preview",
		Long: "Write the spec of a preview of a repository's branch, pull request or commit into a source\n" +
			"of the daemon. What has no flag here is in the spec: tekton new preview NAME.",
		Example: "  tekton preview create https://example.org/team/shop.git feature/login --wait\n  tekton preview create https://example.org/team/shop.git --pull-request 42 --grant STRIPE_KEY",
		Args:    cobra.RangeArgs(1, 2),
	}
	flags := cmd.Flags()
	flags.StringVar(&p.Metadata.Name, "name", "", "name of the preview and of its URL; default: made of repository and branch")
	flags.IntVar(&p.Spec.PullRequest, "pull-request", 0, "number of a pull request, instead of a branch")
	flags.StringVar(&p.Spec.Commit, "commit", "", "commit to stay at")
	flags.StringVar(&p.Spec.Config, "config", "", "path of the application's configuration in the repository; default: preview.yaml")
	flags.StringVar(&p.Spec.Repository.Secret, "secret", "", "secret of the host that opens the repository")
	flags.StringArrayVar(&secrets, "grant", nil, "secret that the application may have: VARIABLE or VARIABLE=SECRET; may be repeated")
	flags.StringArrayVar(&variables, "variable", nil, "variable of the application: NAME=VALUE; may be repeated")
	flags.DurationVar(&refresh, "refresh", 0, "how often the branch is looked at")
	flags.DurationVar(&ttl, "ttl", 0, "remove it after that time")
	flags.DurationVar(&sleepAfter, "sleep-after", 0, "stop it when nobody has asked for it so long; the next request starts it")
	create := a.creates(cmd, 20*time.Minute)
	cmd.RegisterFlagCompletionFunc("secret", a.completeSecrets)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p.Spec.Repository.URL = args[0]
		if len(args) > 1 {
			p.Spec.Branch = args[1]
		}
		p.Spec.Refresh, p.Spec.TTL, p.Spec.SleepAfter = optional(refresh), optional(ttl), optional(sleepAfter)
		if err := grant(&p.Spec.Grants, secrets, variables); err != nil {
			return err
		}
		if p.Metadata.Name == "" {
			p.Metadata.Name = preview.Name(p.Spec)
		}
		return create(cmd.Context(), &p)
	}
	return cmd
}

func optional(d time.Duration) *v1alpha1.Duration {
	if d == 0 {
		return nil
	}
	return &v1alpha1.Duration{Duration: d}
}

// grant reads --grant and --variable.
func grant(g *v1alpha1.PreviewGrants, secrets, variables []string) error {
	for _, text := range secrets {
		name, secret, _ := strings.Cut(text, "=")
		g.Secrets = append(g.Secrets, v1alpha1.PreviewSecret{Name: name, Secret: secret})
	}
	for _, text := range variables {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return usage("--variable %s: write NAME=VALUE", name)
		}
		if g.Variables == nil {
			g.Variables = map[string]string{}
		}
		g.Variables[name] = value
	}
	return nil
}

func (a *app) previewUpdateCommand() *cobra.Command {
	var commit string
	cmd := a.changePreview("update NAME", "Follow the branch again, or stay at a commit", cobra.ExactArgs(1), func(fields *yaml.Node, _ []string) error {
		setField(fields, "commit", commit)
		return nil
	})
	cmd.Flags().StringVar(&commit, "commit", "", "commit to stay at; without it a preview that was held at one follows its branch again")
	return cmd
}

func (a *app) previewRollbackCommand() *cobra.Command {
	cmd := a.changePreview("rollback NAME COMMIT", "Go back to a commit, and stay there until the next update", cobra.ExactArgs(2), func(fields *yaml.Node, args []string) error {
		setField(fields, "commit", args[1])
		return nil
	})
	cmd.Long = "Go back to a commit, and stay there until the next update. COMMIT is written in full;\ntekton events NAME has the former ones."
	return cmd
}

func (a *app) previewBuildCommand() *cobra.Command {
	return a.changePreview("build NAME", "Run the setup of the same commit again", cobra.ExactArgs(1), func(fields *yaml.Node, _ []string) error {
		var have struct {
			Rebuild int `yaml:"rebuild"`
		}
		if err := fields.Decode(&have); err != nil {
			return err
		}
		setField(fields, "rebuild", have.Rebuild+1)
		return nil
	})
}

// changePreview is a command that changes fields of a preview's spec.
func (a *app) changePreview(use, short string, args cobra.PositionalArgs, change func(fields *yaml.Node, args []string) error) *cobra.Command {
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{Use: use, Short: short, Args: args, ValidArgsFunction: a.completeRefs}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is Ready")
	cmd.Flags().DurationVar(&timeout, "timeout", 20*time.Minute, "how long --wait waits")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		items, err := a.previews(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		at := items[0].Metadata.Source
		data, err := os.ReadFile(at.File)
		if err == nil {
			data, err = withFields(data, refOf(items[0]), func(fields *yaml.Node) error { return change(fields, args) })
		}
		if err != nil {
			return &exit{code: exitError, err: fmt.Errorf("change the spec of %s: %w", refOf(items[0]), err), next: "change it where it is written: " + position(at)}
		}
		return a.applyFiles(cmd.Context(), at.Name, []v1alpha1.File{{Name: at.File, Data: data}}, wait, timeout)
	}
	return cmd
}

// withFields returns a file with changed fields of one of its objects; all else,
// comments too, stays as somebody wrote it.
func withFields(file []byte, ref v1alpha1.Ref, change func(fields *yaml.Node) error) ([]byte, error) {
	docs := spec.Documents(file)
	for i := range docs {
		var root yaml.Node
		var head v1alpha1.Ref
		if yaml.Unmarshal([]byte(docs[i].Text), &root) != nil || len(root.Content) == 0 {
			continue
		}
		head.Kind, head.Name = text(root.Content[0], "kind"), text(member(root.Content[0], "metadata"), "name")
		fields := member(root.Content[0], "spec")
		if head != ref || fields == nil || fields.Kind != yaml.MappingNode {
			continue
		}
		if err := change(fields); err != nil {
			return nil, err
		}
		var out bytes.Buffer
		encoder := yaml.NewEncoder(&out)
		encoder.SetIndent(2)
		if err := encoder.Encode(&root); err != nil {
			return nil, err
		}
		docs[i].Text = out.String()
		return spec.Join(docs), nil
	}
	return nil, errors.New("the file does not have it any more")
}

// member returns the value of a mapping's key; nil: there is none.
func member(n *yaml.Node, name string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

func text(n *yaml.Node, name string) string {
	if value := member(n, name); value != nil {
		return value.Value
	}
	return ""
}

// setField sets a field of a mapping; the zero value removes it.
func setField[T comparable](n *yaml.Node, name string, value T) {
	var zero T
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			n.Content = append(n.Content[:i], n.Content[i+2:]...)
			break
		}
	}
	if value == zero {
		return
	}
	key, field := &yaml.Node{}, &yaml.Node{}
	key.SetString(name)
	if err := field.Encode(value); err != nil {
		panic(err) // a scalar always encodes
	}
	n.Content = append(n.Content, key, field)
}

func (a *app) previews(ctx context.Context, names ...string) ([]v1alpha1.Item, error) {
	args := []string{strings.ToLower(v1alpha1.KindPreview)}
	for _, name := range names {
		args = append(args, strings.TrimPrefix(name, "preview/"))
	}
	s, err := parseSelection(args, "")
	if err != nil {
		return nil, err
	}
	return a.objects(ctx, s)
}

// previewLogsCommand asks the journal of the machine: setup and services are its units.
func (a *app) previewLogsCommand() *cobra.Command {
	var follow bool
	var tail int
	cmd := &cobra.Command{
		Use:               "logs NAME",
		Short:             "Print what setup and services of a preview have said",
		Args:              cobra.ExactArgs(1),
		Annotations:       map[string]string{ownSignals: "yes"},
		ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			items, err := a.previews(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			s, err := previewSpec(items[0])
			if err != nil {
				return err
			}
			argv := []string{"journalctl", "--no-pager", "--no-hostname"}
			if !s.UsesNix() { // else the machine's units are the application's
				argv = append(argv, "--unit=preview-*")
			}
			if follow {
				argv = append(argv, "--follow")
			}
			if tail >= 0 {
				argv = append(argv, fmt.Sprintf("--lines=%d", tail))
			}
			// The journalctl that runs is the machine's own.
			out, talk := terminal.NewEscaper(a.out), terminal.NewEscaper(a.err)
			err = a.run(cmd.Context(), "preview/"+strings.TrimPrefix(args[0], "preview/"), wire.ExecRequest{Command: argv}, client.Streams{Stdout: out, Stderr: talk}, false)
			return errors.Join(err, out.Flush(), talk.Flush())
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes")
	cmd.Flags().IntVar(&tail, "tail", -1, "only the last lines; -1: all that is kept")
	return cmd
}

func (a *app) previewListCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "list [NAME...]",
		Short:             "List previews: what of which repository, and where",
		ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			items, err := a.previews(cmd.Context(), args...)
			if err != nil {
				return err
			}
			rows := [][]terminal.Cell{a.header([]string{"NAME", "REPOSITORY", "BRANCH", "COMMIT", "STATE", "STATUS", "URL", "AGE"})}
			for _, item := range items {
				row, err := a.previewRow(item)
				if err != nil {
					return err
				}
				rows = append(rows, row)
			}
			if len(items) == 0 {
				fmt.Fprintln(a.err, "No previews.")
				return nil
			}
			var table terminal.Table
			io.WriteString(a.out, table.Format(rows))
			return nil
		},
	}
}

// previewSpec is that of an item; of a rejected one there is none.
func previewSpec(item v1alpha1.Item) (s v1alpha1.PreviewSpec, err error) {
	raw, err := json.Marshal(item.Spec)
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read the spec of %s: %w", refOf(item), err)
	}
	return s, nil
}

func (a *app) previewRow(item v1alpha1.Item) ([]terminal.Cell, error) {
	s, err := previewSpec(item)
	if err != nil {
		return nil, err
	}
	follows, commit, url := s.Branch, "", ""
	if s.PullRequest != 0 {
		follows = fmt.Sprintf("#%d", s.PullRequest)
	}
	if item.Status.Setup != nil {
		commit = short(item.Status.Setup.Done)
	}
	if len(item.Status.URLs) > 0 {
		url = item.Status.URLs[0]
	}
	repository := strings.TrimSuffix(s.Repository.URL[strings.LastIndex(s.Repository.URL, "://")+1:], ".git")
	return []terminal.Cell{
		terminal.Text(item.Metadata.Name), terminal.Text(strings.TrimLeft(repository, "/:")), terminal.Text(follows), terminal.Text(commit),
		a.data.phase(item.Status.Phase), terminal.Text(why.Reason(item)), terminal.Text(url), terminal.Text(terminal.Since(item.Status.StartedAt, a.now())),
	}, nil
}
