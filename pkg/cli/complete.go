package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
)

// completeTimeout bounds the question to the daemon while somebody types.
const completeTimeout = time.Second

// complete asks the daemon for words. Without a daemon there are none.
func (a *app) complete(cmd *cobra.Command, given []string, words func(context.Context, *client.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	all, err := words(ctx, client.New(a.socket))
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.DeleteFunc(all, func(w string) bool { return slices.Contains(given, w) }), cobra.ShellCompDirectiveNoFileComp
}

// completeRefs completes live objects, after a kind its names.
func (a *app) completeRefs(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, args, func(ctx context.Context, c *client.Client) ([]string, error) {
		items, err := c.List(ctx)
		var words []string
		kind, ofKind := "", false
		if len(args) > 0 {
			kind, ofKind = kindNamed(args[0], v1alpha1.Kinds())
		}
		for _, item := range items {
			switch {
			case ofKind && item.Kind == kind, !ofKind && !strings.Contains(typed, "/"):
				words = append(words, item.Metadata.Name)
			case !ofKind:
				words = append(words, refOf(item).String())
			}
		}
		if len(args) == 0 && cmd.Name() == "get" {
			for _, k := range v1alpha1.Kinds() {
				words = append(words, strings.ToLower(k)+"s")
			}
		}
		return words, err
	})
}

func (a *app) completeSources(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, args, func(ctx context.Context, c *client.Client) ([]string, error) {
		sources, err := c.Sources(ctx)
		return names(sources, func(s v1alpha1.SourceStatus) string { return s.Name }), err
	})
}

func (a *app) completeSecrets(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, args, func(ctx context.Context, c *client.Client) ([]string, error) {
		secrets, err := c.ListSecrets(ctx)
		return names(secrets, func(s v1alpha1.SecretInfo) string { return s.Name }), err
	})
}

func (a *app) completeData(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, args, func(ctx context.Context, c *client.Client) ([]string, error) {
		items, err := c.ListData(ctx)
		items = slices.DeleteFunc(items, func(d v1alpha1.DataItem) bool { return d.State == v1alpha1.DataInUse })
		return names(items, func(d v1alpha1.DataItem) string { return d.ID }), err
	})
}

func names[T any](all []T, name func(T) string) []string {
	var words []string
	for _, v := range all {
		words = append(words, name(v))
	}
	return words
}
