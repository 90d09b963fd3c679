package cli

import (
	"fmt"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/why"
)

func (a *app) whyCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "why NAME...",
		Short:             "Say in a sentence what an object lacks, since when, and what helps",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.forEach(cmd, args, func(item v1alpha1.Item) error {
				a.say("%s", why.Of(item, a.now()))
				return nil
			})
		},
	}
}

func (a *app) forEach(cmd *cobra.Command, args []string, do func(v1alpha1.Item) error) error {
	s, err := parseSelection(args, "")
	if err != nil {
		return err
	}
	items, err := a.objects(cmd.Context(), s)
	if err != nil {
		return err
	}
	for _, item := range items {
		if err := do(item); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) urlCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "url NAME...",
		Short:             "Print the URLs of objects, one a line",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.forEach(cmd, args, func(item v1alpha1.Item) error {
				urls, err := urlsOf(item)
				for _, u := range urls {
					a.say("%s", u)
				}
				return err
			})
		},
	}
}

func (a *app) openCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "open NAME",
		Short:             "Show an object's first URL in the browser ($BROWSER, xdg-open)",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.forEach(cmd, args, func(item v1alpha1.Item) error {
				urls, err := urlsOf(item)
				if err != nil {
					return err
				}
				browser := a.getenv("BROWSER")
				if browser == "" {
					browser = "xdg-open"
				}
				program, err := exec.LookPath(browser)
				if err != nil {
					return &exit{code: exitError, err: fmt.Errorf("there is no browser here (%w)", err), next: "open " + urls[0] + " elsewhere, or set BROWSER to a program"}
				}
				if err := exec.CommandContext(cmd.Context(), program, urls[0]).Run(); err != nil {
					return fmt.Errorf("%s %s: %w", browser, urls[0], err)
				}
				return nil
			})
		},
	}
}

func urlsOf(item v1alpha1.Item) ([]string, error) {
	if len(item.Status.URLs) == 0 {
		return nil, notFound("give it one: tekton explain "+strings.ToLower(item.Kind)+".spec.routes", "%s has no URL", refOf(item))
	}
	return item.Status.URLs, nil
}
