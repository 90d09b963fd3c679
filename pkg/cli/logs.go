package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/server/wire"
)

func (a *app) logsCommand() *cobra.Command {
	var o v1alpha1.LogOptions
	var raw, all bool
	var since string
	cmd := &cobra.Command{
		Use:               "logs NAME | --all",
		Short:             "Print the log of an object's machine",
		Example:           "  tekton logs -f web\n  tekton logs web --since 10m --tail 100\n  tekton logs web --previous\n  tekton logs --all -f --tail 0",
		Args:              cobra.MaximumNArgs(2),
		ValidArgsFunction: a.completeRefs,
	}
	cmd.Flags().BoolVarP(&o.Follow, "follow", "f", false, "go on with what comes")
	cmd.Flags().IntVar(&o.Tail, "tail", -1, "only the last lines; -1: all that is kept")
	cmd.Flags().StringVar(&since, "since", "", "only what was written since: 10m, 15:04, 2006-01-02, RFC 3339")
	cmd.Flags().BoolVar(&o.Previous, "previous", false, "what was written before the present start, also by another incarnation")
	cmd.Flags().BoolVar(&all, "all", false, "the logs of all objects, the name before each line")
	cmd.Flags().BoolVar(&o.Build, "build", false, "the log of the builds of its flake")
	cmd.Flags().BoolVar(&o.Setup, "setup", false, "the log of what was done inside its machine for a revision")
	cmd.Flags().BoolVar(&o.Console, "console", false, "of a machine that boots: what it wrote on its console, not its journal")
	cmd.MarkFlagsMutuallyExclusive("build", "setup", "previous")
	cmd.MarkFlagsMutuallyExclusive("follow", "previous")
	cmd.Flags().BoolVar(&raw, "raw", false, "do not escape control characters")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if all == (len(args) > 0) {
			return usage("logs needs a name or --all")
		}
		if o.Since, err = moment(since, a.now()); err != nil {
			return err
		}
		ctx := cmd.Context()
		if all {
			return a.allLogs(ctx, o, raw)
		}
		ref, err := a.resolveOne(ctx, args...)
		if err != nil {
			return err
		}
		return a.copyLog(ctx, ref, o, raw, a.out)
	}
	return cmd
}

// moments are how a point in time may be written, in local time where no zone is in it.
var moments = []string{time.RFC3339Nano, time.DateTime, "2006-01-02 15:04", "2006-01-02T15:04:05", time.DateOnly}

// moment reads a point in time, or how long ago it was; "" is the zero time.
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range moments {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{time.TimeOnly, "15:04"} {
		if t, err := time.Parse(layout, text); err == nil {
			y, m, d := now.Date()
			t = time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), 0, now.Location())
			if t.After(now) {
				t = t.AddDate(0, 0, -1)
			}
			return t, nil
		}
	}
	return time.Time{}, usage("%q is no time: use a duration (10m), a time of day (15:04), a date (2006-01-02) or RFC 3339", text)
}

// copyLog copies a log to out, harmless unless raw.
func (a *app) copyLog(ctx context.Context, ref v1alpha1.Ref, o v1alpha1.LogOptions, raw bool, out io.Writer) error {
	log, err := a.client.Logs(ctx, ref, o)
	if err != nil {
		return err
	}
	defer log.Close()
	if raw {
		_, err = io.Copy(out, log)
	} else {
		e := terminal.NewEscaper(out)
		_, err = io.Copy(e, log)
		err = errors.Join(err, e.Flush())
	}
	if cerr := ctx.Err(); cerr != nil {
		return cerr
	}
	return err
}

// allLogs prints one log after the other, or those that are followed as they come.
func (a *app) allLogs(ctx context.Context, o v1alpha1.LogOptions, raw bool) error {
	items, err := a.client.List(ctx)
	if err != nil {
		return err
	}
	width := 0
	for _, item := range items {
		width = max(width, len(item.Metadata.Name))
	}
	var writing sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	if !o.Follow {
		group.SetLimit(1)
	}
	for i, item := range items {
		name := fmt.Sprintf("%-*s", width, terminal.Escape(item.Metadata.Name))
		paint := []func(string) string{a.data.Cyan, a.data.Green, a.data.Yellow}[i%3]
		out := &prefixer{out: a.out, prefix: paint(name) + a.data.Faint(" | "), mu: &writing}
		group.Go(func() error {
			err := a.copyLog(ctx, refOf(item), o, raw, out)
			// What has no machine or no such log has nothing to say here.
			if e, ok := errors.AsType[*wire.Error](err); ok && (e.Code == wire.Conflict || e.Code == wire.NotFound) {
				err = nil
			}
			return errors.Join(err, out.flush())
		})
	}
	return group.Wait()
}

// prefixer writes whole lines, each with a prefix, beside others of its kind.
type prefixer struct {
	out    io.Writer
	prefix string
	mu     *sync.Mutex
	rest   []byte // a line without its end
}

// longestRest is passed on without waiting for its end.
const longestRest = 64 << 10

func (p *prefixer) Write(b []byte) (int, error) {
	text := append(p.rest, b...)
	cut := bytes.LastIndexByte(text, '\n') + 1
	if len(text)-cut > longestRest {
		text = append(text, '\n')
		cut = len(text)
	}
	p.rest = bytes.Clone(text[cut:])
	return len(b), p.write(string(text[:cut]))
}

func (p *prefixer) write(lines string) error {
	var out strings.Builder
	for line := range strings.Lines(lines) {
		out.WriteString(p.prefix + line)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := io.WriteString(p.out, out.String())
	return err
}

func (p *prefixer) flush() error {
	if len(p.rest) == 0 {
		return nil
	}
	rest := string(p.rest) + "\n"
	p.rest = nil
	return p.write(rest)
}
