package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
)

// describedEvents is how many of its events describe shows of an object.
const describedEvents = 8

func (a *app) eventsCommand() *cobra.Command {
	var follow bool
	var tail int
	cmd := &cobra.Command{
		Use:               "events [NAME...]",
		Short:             "Show what happened: who, what, why",
		Example:           "  tekton events --follow\n  tekton events web --tail 20\n  tekton events source/local",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeRefs,
	}
	output := formatFlag(cmd, asJSON)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes")
	cmd.Flags().IntVar(&tail, "tail", -1, "only the last events; -1: all that are kept")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		f, err := output()
		if err != nil {
			return err
		}
		ofNames := func(e v1alpha1.Event) bool {
			return len(names) == 0 || slices.Contains(names, e.Object.Name) || slices.Contains(names, e.Object.String())
		}
		show := func(e v1alpha1.Event) error {
			if f == asJSON {
				line, err := json.Marshal(e)
				if err != nil {
					return err
				}
				_, err = a.out.Write(append(terminal.EscapeJSON(line), '\n'))
				return err
			}
			_, err := a.out.Write([]byte(a.event(e) + "\n"))
			return err
		}
		shown := 0
		err = a.eachEvent(cmd.Context(), tail, follow, ofNames, func(e v1alpha1.Event) error {
			shown++
			return show(e)
		})
		if err == nil && shown == 0 && tail != 0 && len(names) > 0 {
			fmt.Fprintf(a.err, "No events of %s.\n", terminal.Escape(strings.Join(names, ", ")))
		}
		return err
	}
	return cmd
}

// eachEvent shows the last tail of the events that are wanted, then those that come.
func (a *app) eachEvent(ctx context.Context, tail int, follow bool, wanted func(v1alpha1.Event) bool, show func(v1alpha1.Event) error) error {
	var kept []v1alpha1.Event
	last := int64(0)
	for e, err := range a.client.Events(ctx, 0, false) {
		if err != nil {
			return err
		}
		if last = e.Seq; wanted(e) {
			kept = append(kept, e)
		}
	}
	if tail >= 0 {
		kept = kept[max(0, len(kept)-tail):]
	}
	for _, e := range kept {
		if err := show(e); err != nil {
			return err
		}
	}
	if !follow {
		return nil
	}
	for e, err := range a.client.Events(ctx, last, true) {
		if err != nil {
			return err
		}
		if wanted(e) {
			if err := show(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// eventsByUID are the last events of every object, the oldest first.
func (a *app) eventsByUID(ctx context.Context) (map[string][]v1alpha1.Event, error) {
	byUID := map[string][]v1alpha1.Event{}
	for e, err := range a.client.Events(ctx, 0, false) {
		if err != nil {
			return byUID, err
		}
		if e.UID != "" {
			mine := append(byUID[e.UID], e)
			byUID[e.UID] = mine[max(0, len(mine)-describedEvents):]
		}
	}
	return byUID, nil
}

// event is one line: when, whose, what, why, who.
func (a *app) event(e v1alpha1.Event) string {
	reason := terminal.Escape(e.Reason)
	if e.Type == v1alpha1.EventWarning {
		reason = a.data.Yellow(reason)
	}
	by := ""
	if e.By != "" {
		by = "(" + e.By + ")"
	}
	return joined(" ", e.Time.Local().Format(time.DateTime), terminal.Escape(e.Object.String()), reason, terminal.Escape(joined(" ", e.Message, by)))
}
