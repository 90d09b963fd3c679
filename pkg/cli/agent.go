package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/spec"
	"tekton.host/pkg/why"
)

// agentCommand is for people who think in agents: each command writes, removes
// or shows specs, as apply, delete and get do.
func (a *app) agentCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "agent", Short: "Create, enter and remove sandboxes for coding agents"}
	list := a.getCommand()
	list.Use, list.Short, list.Example = "list [NAME...]", "List agents with their status", ""
	ofKind(v1alpha1.KindAgent, list)
	destroy := a.destroyCommand(v1alpha1.KindAgent, "Delete agents; says what happens to their homes and databases")
	cmd.AddCommand(a.agentCreateCommand(), destroy, list, a.agentSSHCommand(), a.agentBuildCommand(), a.agentKeepCommand(), a.agentExtendCommand())
	return cmd
}

func (a *app) destroyCommand(kind, short string) *cobra.Command {
	cmd := a.deleteCommand()
	cmd.Use, cmd.Short = "destroy NAME...", short
	ofKind(kind, cmd)
	return cmd
}

// ofKind has a command about objects be one about those of a kind.
func ofKind(kind string, cmd *cobra.Command) {
	run, complete := cmd.RunE, cmd.ValidArgsFunction
	named := func(args []string) []string { return append([]string{strings.ToLower(kind)}, args...) }
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 && cmd.Name() == "destroy" {
			return usage("destroy needs names")
		}
		return run(cmd, named(args))
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		return complete(cmd, named(args), typed)
	}
	if f := cmd.Flags().Lookup("filename"); f != nil {
		f.Hidden = true
	}
}

func (a *app) agentCreateCommand() *cobra.Command {
	var o v1alpha1.Agent
	var system string
	var keyFiles, credentials []string
	var repository v1alpha1.AgentRepository
	var ttl time.Duration
	var ephemeral bool
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Write the spec of an agent",
		Long: "Write the spec of an agent into a source of the daemon. Without --ssh-key the public\nkeys in ~/.ssh may log in. " +
			"What has no flag here is in the spec: tekton new agent NAME.",
		Example: "  tekton agent create fix-login --ttl 8h --credential model-token --wait\n  tekton agent ssh fix-login",
		Args:    cobra.ExactArgs(1),
	}
	flags := cmd.Flags()
	flags.StringVar(&system, "system", "host", "host, a store path, a directory, or a flake's REFERENCE#ATTRIBUTE")
	flags.StringVar(&o.Spec.User, "user", "", "user that ssh lets in; default: agent")
	flags.StringArrayVar(&keyFiles, "ssh-key", nil, "file of public keys that may log in; may be repeated")
	flags.StringArrayVar(&credentials, "credential", nil, "secret of the host that it gets as a file; may be repeated")
	flags.StringVar(&repository.URL, "repository", "", "URL of a repository that the host clones to /workspace")
	flags.StringVar(&repository.Ref, "ref", "", "branch, tag or commit of it; default: its default branch")
	flags.StringVar(&repository.Secret, "repository-secret", "", "secret of the host that gives access to it")
	flags.DurationVar(&ttl, "ttl", 0, "remove it after that time")
	flags.BoolVar(&ephemeral, "delete-home", false, "its home goes to the trash with it")
	create := a.creates(cmd, defaultWait)
	cmd.RegisterFlagCompletionFunc("credential", a.completeSecrets)
	cmd.RegisterFlagCompletionFunc("repository-secret", a.completeSecrets)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.TypeMeta, o.Metadata.Name = v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindAgent}, args[0]
		var err error
		if o.Spec.SSHKeys, err = a.publicKeys(keyFiles); err != nil {
			return err
		}
		o.Spec.System = systemOf(system)
		for _, name := range credentials {
			o.Spec.Credentials = append(o.Spec.Credentials, v1alpha1.Credential{Name: name})
		}
		if repository.URL != "" {
			o.Spec.Repository = &repository
		} else if repository != (v1alpha1.AgentRepository{}) {
			return usage("--ref and --repository-secret go with --repository")
		}
		o.Spec.TTL = optional(ttl)
		if ephemeral {
			o.Spec.Home.DeletionPolicy = "Delete"
		}
		return create(cmd.Context(), &o)
	}
	return cmd
}

// creates gives a command the flags of one that writes the spec of a new object,
// and returns what writes it.
func (a *app) creates(cmd *cobra.Command, timeout time.Duration) func(context.Context, v1alpha1.Object) error {
	flags := cmd.Flags()
	source := flags.String("source", "", "source to write to; default: the first")
	wait := flags.Bool("wait", false, "wait until it is Ready")
	flags.DurationVar(&timeout, "timeout", timeout, "how long --wait waits")
	cmd.RegisterFlagCompletionFunc("source", a.completeSources)
	return func(ctx context.Context, o v1alpha1.Object) error {
		text, err := spec.Marshal(o)
		if err != nil {
			return err
		}
		if err := a.mustBeNew(ctx, o.Meta().Name); err != nil {
			return err
		}
		return a.applyFiles(ctx, *source, []v1alpha1.File{{Name: "the command line", Data: text}}, *wait, timeout)
	}
}

// mustBeNew keeps create from writing over a spec that says more than flags do.
func (a *app) mustBeNew(ctx context.Context, name string) error {
	items, err := a.client.List(ctx)
	if err != nil {
		return err
	}
	for _, item := range items {
		if item.Metadata.Name == name {
			return &exit{code: exitError, err: fmt.Errorf("%s is there already", refOf(item)), next: "choose another name, or change its spec: " + position(item.Metadata.Source)}
		}
	}
	return nil
}

// systemOf reads --system.
func systemOf(text string) v1alpha1.System {
	switch {
	case text == "host":
		return v1alpha1.System{Host: true}
	case strings.Contains(text, "#"):
		return v1alpha1.System{Flake: text}
	case strings.HasPrefix(text, "/nix/store/"):
		return v1alpha1.System{StorePath: text}
	}
	return v1alpha1.System{RootFS: text}
}

// publicKeys reads files of public keys; without any, those of whoever asks.
func (a *app) publicKeys(files []string) ([]string, error) {
	own := len(files) == 0
	if own {
		files, _ = filepath.Glob(filepath.Join(a.getenv("HOME"), ".ssh", "id_*.pub")) // the pattern is good
	}
	var keys []string
	for _, name := range files {
		data, err := a.readFile(name)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				keys = append(keys, line)
			}
		}
	}
	if own && len(keys) == 0 {
		a.warn("there is no public key in %s/.ssh: nobody can log in by ssh; name one with --ssh-key", a.getenv("HOME"))
	}
	return keys, nil
}

func (a *app) agentBuildCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:               "build NAME",
		Short:             "Wait for the build of an agent's flake, and say how it goes",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			item, err := a.agent(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if item.Status.Build == nil {
				return &exit{code: exitError, err: fmt.Errorf("%s is not built: its system is no flake", refOf(item)), next: "tekton describe " + refOf(item).String()}
			}
			if err := a.await(cmd.Context(), timeout, []target{{ref: refOf(item), done: built}}); err != nil {
				return err
			}
			if item, err = a.agent(cmd.Context(), args[0]); err == nil && item.Status.Build != nil {
				a.say("%s", item.Status.Build.StorePath)
			}
			return err
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", time.Hour, "how long to wait")
	return cmd
}

// built judges whether the latest build of an object's flake has ended, and well.
func built(item *v1alpha1.Item) (bool, error) {
	if item == nil {
		return false, errors.New("it was deleted meanwhile")
	}
	if b := item.Status.Build; b != nil && b.Running {
		return false, nil
	}
	c := why.Condition(*item, v1alpha1.ConditionBuilt)
	switch {
	case c == nil || c.Status == v1alpha1.ConditionUnknown || c.Reason == "Building" || c.Reason == "BuildQueued":
		return false, nil
	case c.Status == v1alpha1.ConditionTrue && !c.Stale():
		return true, nil
	}
	return false, &exit{code: exitError, err: fmt.Errorf("%s: %s", c.Reason, c.Message), next: "tekton logs --build " + refOf(*item).String()}
}

// agent returns an agent by its name.
func (a *app) agent(ctx context.Context, name string) (v1alpha1.Item, error) {
	name = strings.TrimPrefix(name, "agent/")
	items, err := a.objects(ctx, selection{refs: []v1alpha1.Ref{{Kind: v1alpha1.KindAgent, Name: name}}, labels: labels.Everything()})
	if err != nil {
		return v1alpha1.Item{}, err
	}
	return items[0], nil
}

func (a *app) agentKeepCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "keep NAME",
		Short:             "Let an agent stay: its ttl ends",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := a.changeTTL(cmd.Context(), args[0], func(v1alpha1.Duration) v1alpha1.Duration { return v1alpha1.Duration{} })
			if errors.Is(err, errStays) {
				a.say("agent/%s has no ttl: it stays", strings.TrimPrefix(args[0], "agent/"))
				return nil
			}
			return err
		},
	}
}

func (a *app) agentExtendCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "extend NAME DURATION",
		Short:             "Give an agent more time",
		Example:           "  tekton agent extend fix-login 2h",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			more, err := time.ParseDuration(args[1])
			if err != nil || more <= 0 {
				return usage("%q is not a duration such as 2h", args[1])
			}
			return a.changeTTL(cmd.Context(), args[0], func(d v1alpha1.Duration) v1alpha1.Duration {
				return v1alpha1.Duration{Duration: d.Duration + more}
			})
		},
	}
}

// changeTTL changes that one value in the object's document: all else, comments
// too, stays as somebody wrote it.
func (a *app) changeTTL(ctx context.Context, name string, change func(v1alpha1.Duration) v1alpha1.Duration) error {
	item, err := a.agent(ctx, name)
	if err != nil {
		return err
	}
	file := item.Metadata.Source.File
	data, err := os.ReadFile(file)
	if err != nil {
		return &exit{code: exitError, err: fmt.Errorf("read the spec of %s: %w", refOf(item), err), next: "change spec.ttl where the spec is written: " + position(item.Metadata.Source)}
	}
	text, err := withTTL(file, data, refOf(item), change)
	if err != nil {
		return err
	}
	return a.applyFiles(ctx, item.Metadata.Source.Name, []v1alpha1.File{{Name: file, Data: text}}, false, 0)
}

// errStays says that an object has no ttl that could be changed.
var errStays = errors.New("has no ttl: it stays")

var scalarText = regexp.MustCompile(`^("[^"]*"|'[^']*'|[^\s,}#]+)`)

// withTTL returns a file with another ttl of one of its objects.
func withTTL(file string, data []byte, ref v1alpha1.Ref, change func(v1alpha1.Duration) v1alpha1.Duration) ([]byte, error) {
	objects, problems := spec.Decode(file, data, spec.Options{})
	for _, o := range objects {
		if o.Type().Kind != ref.Kind || o.Meta().Name != ref.Name {
			continue
		}
		ttl := o.Machine().TTL
		if ttl == nil || ttl.Duration == 0 {
			return nil, &exit{code: exitError, err: fmt.Errorf("%s %w", ref, errStays), next: "to have it removed some day, write spec.ttl in " + file}
		}
		at := o.FieldPosition("spec.ttl")
		lines := strings.SplitAfter(string(data), "\n")
		line := []rune(lines[at.Line-1])
		before, rest := string(line[:at.Column-1]), string(line[at.Column-1:])
		lines[at.Line-1] = before + scalarText.ReplaceAllLiteralString(rest, change(*ttl).String())
		return []byte(strings.Join(lines, "")), nil
	}
	for _, p := range problems {
		return nil, fmt.Errorf("the spec of %s cannot be changed: %w", ref, p)
	}
	return nil, notFound("look where it is: tekton describe "+ref.String(), "%s is not in %s any more", ref, file)
}
