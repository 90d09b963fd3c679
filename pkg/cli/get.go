package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/why"
)

func (a *app) getCommand() *cobra.Command {
	var selector string
	var watch, noHeaders bool
	cmd := &cobra.Command{
		Use:               "get [KIND [NAME...] | KIND/NAME... | NAME...]",
		Short:             "List objects with their status",
		Example:           "  tekton get\n  tekton get containers -l app=shop -o wide\n  tekton get web -o json",
		ValidArgsFunction: a.completeRefs,
	}
	output := formatFlag(cmd, asWide, asJSON, asYAML, asName)
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "only objects with these labels: app=shop,tier!=test")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on with each change; -o json: one event a line")
	cmd.Flags().BoolVar(&noHeaders, "no-headers", false, "no header above the table")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := output()
		if err != nil {
			return err
		}
		s, err := parseSelection(args, selector)
		if err != nil {
			return err
		}
		l := &lister{app: a, format: f, noHeaders: noHeaders}
		if watch {
			return l.watch(cmd.Context(), s)
		}
		items, err := a.objects(cmd.Context(), s)
		if err != nil && len(items) == 0 {
			return err
		}
		if werr := l.list(items); werr != nil {
			return werr
		}
		if err == nil && f == asTable && len(args) == 0 {
			err = a.talkAboutSources(cmd.Context(), len(items))
		}
		return err
	}
	return cmd
}

// lister prints objects in one format.
type lister struct {
	*app
	format    format
	noHeaders bool
	table     terminal.Table
	headed    bool
}

func (l *lister) list(items []v1alpha1.Item) error {
	switch l.format {
	case asJSON, asYAML:
		return l.write(l.format, v1alpha1.List{Items: items})
	case asName:
		for _, item := range items {
			l.say("%s", refOf(item))
		}
		return nil
	}
	if len(items) > 0 {
		l.rows(items...)
	}
	return nil
}

func (l *lister) rows(items ...v1alpha1.Item) {
	var rows [][]terminal.Cell
	if !l.headed && !l.noHeaders {
		names := []string{"NAME", "KIND", "PHASE", "STATUS", "URL", "AGE"}
		if l.format == asWide {
			names = append(names, "ADDRESS", "MACHINE", "SLOT", "RESTARTS", "GENERATION", "SOURCE")
		}
		rows = append(rows, l.header(names))
	}
	l.headed = true
	for _, item := range items {
		rows = append(rows, l.row(item))
	}
	io.WriteString(l.out, l.table.Format(rows))
}

func (l *lister) row(item v1alpha1.Item) []terminal.Cell {
	m, s := item.Metadata, item.Status
	url := strings.Join(s.URLs, ",")
	if l.format != asWide && len(s.URLs) > 1 {
		url = fmt.Sprintf("%s (+%d)", s.URLs[0], len(s.URLs)-1)
	}
	cells := []terminal.Cell{
		terminal.Text(m.Name), terminal.Text(item.Kind), l.data.phase(s.Phase), terminal.Text(why.Reason(item)),
		terminal.Text(url), terminal.Text(terminal.Since(s.StartedAt, l.now())),
	}
	if l.format != asWide {
		return cells
	}
	slot := ""
	if s.Slot > 0 {
		slot = fmt.Sprint(s.Slot)
	}
	for _, text := range []string{s.Address, s.Machine, slot, fmt.Sprint(s.Restarts), fmt.Sprint(m.Generation), position(m.Source)} {
		cells = append(cells, terminal.Text(text))
	}
	return cells
}

func position(s v1alpha1.SourcePosition) string {
	if s.File == "" {
		return s.Name
	}
	return fmt.Sprintf("%s:%d", s.File, s.Line)
}

// watch prints what there is and then each change.
func (l *lister) watch(ctx context.Context, s selection) error {
	var begin []v1alpha1.Item
	synced := false
	for e, err := range l.client.Watch(ctx) {
		switch {
		case err != nil:
			return err
		case e.Type == v1alpha1.WatchSynced:
			synced = true
			if err := l.begin(begin); err != nil {
				return err
			}
		case e.Item == nil || !s.has(*e.Item):
		case !synced:
			begin = append(begin, *e.Item)
		default:
			if err := l.event(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lister) begin(items []v1alpha1.Item) error {
	if l.format == asTable || l.format == asWide {
		l.rows(items...)
		return nil
	}
	for _, item := range items {
		if err := l.event(v1alpha1.WatchEvent{Type: v1alpha1.WatchPut, Item: &item}); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) event(e v1alpha1.WatchEvent) error {
	switch l.format {
	case asName:
		l.say("%s", refOf(*e.Item))
		return nil
	case asJSON:
		text, err := json.Marshal(e)
		if err == nil {
			_, err = l.out.Write(append(terminal.EscapeJSON(text), '\n'))
		}
		return err
	case asYAML:
		io.WriteString(l.out, "---\n")
		return l.write(asYAML, e)
	}
	item := *e.Item
	if e.Type == v1alpha1.WatchDelete {
		item.Status = v1alpha1.Status{Phase: "Deleted"}
	}
	l.rows(item)
	return nil
}

// talkAboutSources says beside the table what the table cannot show: files
// with problems, and deletions that are held.
func (a *app) talkAboutSources(ctx context.Context, shown int) error {
	problems, err := a.client.Problems(ctx)
	if err != nil {
		return err
	}
	sources, err := a.client.Sources(ctx)
	if err != nil {
		return err
	}
	if shown == 0 {
		fmt.Fprintln(a.err, "No objects.")
		if len(sources) > 0 && len(problems) == 0 {
			next := "put a spec into %s, or run tekton apply -f FILE"
			if sources[0].Git != nil {
				next = "push a spec to %s"
			}
			fmt.Fprintf(a.err, "Next step: "+next+"\n", terminal.Escape(fromWhere(sources[0])))
		}
	}
	for _, p := range problems {
		a.warn("%s", p.Error())
	}
	for _, s := range sources {
		a.warnSource(s)
	}
	return nil
}

func (a *app) warnSource(s v1alpha1.SourceStatus) {
	if len(s.Held) > 0 {
		a.warn("source %s holds the deletion of %s: %s\nNext step: bring the files back, or run tekton release-deletes %s", s.Name, plural(len(s.Held), "object"), s.Message, s.Name)
	} else if !s.Complete {
		a.warn("source %s could not be read whole, nothing is deleted: %s", s.Name, s.Message)
	} else if s.Git != nil && s.Git.Error != "" {
		a.warn("source %s stays at commit %s: %s", s.Name, short(s.Git.Commit), s.Git.Error)
	}
}
