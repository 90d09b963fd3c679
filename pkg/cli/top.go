package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
)

// machineUsage is what a machine uses, with its rates since the sample before.
type machineUsage struct {
	v1alpha1.Usage `json:",inline"`
	// CPUPercent of one CPU.
	CPUPercent        float64 `json:"cpuPercent"`
	ReceivedPerSecond float64 `json:"receivedPerSecond"`
	SentPerSecond     float64 `json:"sentPerSecond"`
}

// sorts are the orders of top: the largest first, then by name.
var sorts = map[string]func(machineUsage) float64{
	"cpu":     func(u machineUsage) float64 { return u.CPUPercent },
	"memory":  func(u machineUsage) float64 { return float64(u.Memory) },
	"tasks":   func(u machineUsage) float64 { return float64(u.Tasks) },
	"disk":    func(u machineUsage) float64 { return float64(u.Disk) },
	"network": func(u machineUsage) float64 { return u.ReceivedPerSecond + u.SentPerSecond },
	"name":    func(machineUsage) float64 { return 0 },
}

var sortNames = []string{"cpu", "memory", "tasks", "disk", "network", "name"}

func (a *app) topCommand() *cobra.Command {
	t := &top{app: a}
	var sort string
	cmd := &cobra.Command{
		Use:   "top [NAME...]",
		Short: "Show what the machines use",
		Long: "Show what the machines use: processor (100 % is one CPU), memory without file contents\n" +
			"that can be dropped, tasks, disk as far as a limit has it counted, network.\n" +
			"~: estimated, where the kernel does not count memory and tasks of the machine.",
		Example:           "  tekton top\n  tekton top --watch --sort memory\n  tekton top web -o json",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeRefs,
	}
	output := formatFlag(cmd, asWide, asJSON, asYAML)
	cmd.Flags().BoolVarP(&t.again, "watch", "w", false, "go on, a sample each interval")
	cmd.Flags().DurationVar(&t.interval, "interval", time.Second, "time between two samples")
	cmd.Flags().StringVar(&sort, "sort", "cpu", "order: "+strings.Join(sortNames, ", "))
	cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(sortNames, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if t.format, err = output(); err != nil {
			return err
		}
		if t.by = sorts[sort]; t.by == nil {
			return usage("sort %q is none of %s", sort, strings.Join(sortNames, ", "))
		}
		if t.interval < 100*time.Millisecond {
			return usage("an interval of %s is too short to tell anything: 100ms at least", t.interval)
		}
		s, err := parseSelection(args, "")
		if err != nil {
			return err
		}
		t.refs = s.refs
		if _, err := a.objects(cmd.Context(), s); err != nil {
			return err
		}
		return t.run(cmd.Context())
	}
	return cmd
}

type top struct {
	*app
	format   format
	again    bool
	interval time.Duration
	by       func(machineUsage) float64
	refs     []v1alpha1.Ref
}

func (t *top) run(ctx context.Context) error {
	before, err := t.client.Usage(ctx)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(t.interval):
		}
		now, err := t.client.Usage(ctx)
		if err != nil {
			return err
		}
		if err := t.show(t.between(before, now)); err != nil || !t.again {
			return err
		}
		before = now
	}
}

// between are the machines of now that are wanted, in order.
func (t *top) between(before, now v1alpha1.UsageReport) []machineUsage {
	old := map[string]v1alpha1.Usage{}
	for _, u := range before.Items {
		old[u.Machine] = u
	}
	seconds := now.Time.Sub(before.Time).Seconds()
	all := []machineUsage{}
	for _, u := range now.Items {
		wanted := func(r v1alpha1.Ref) bool { return r.Name == u.Name && (r.Kind == "" || r.Kind == u.Kind) }
		if len(t.refs) > 0 && !slices.ContainsFunc(t.refs, wanted) {
			continue
		}
		m := machineUsage{Usage: u}
		// One that was started in between counts from nothing again.
		if was, there := old[u.Machine]; there && seconds > 0 && was.CPUMicroseconds <= u.CPUMicroseconds {
			m.CPUPercent = float64(u.CPUMicroseconds-was.CPUMicroseconds) / 1e4 / seconds
			if was.Received <= u.Received && was.Sent <= u.Sent {
				m.ReceivedPerSecond, m.SentPerSecond = float64(u.Received-was.Received)/seconds, float64(u.Sent-was.Sent)/seconds
			}
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b machineUsage) int {
		return cmp.Or(cmp.Compare(t.by(b), t.by(a)), cmp.Compare(a.Machine, b.Machine))
	})
	return all
}

func (t *top) show(all []machineUsage) error {
	switch {
	case t.format == asJSON && t.again:
		line, err := json.Marshal(listOf(all))
		if err == nil {
			_, err = t.out.Write(append(terminal.EscapeJSON(line), '\n'))
		}
		return err
	case t.format == asJSON, t.format == asYAML:
		return t.write(t.format, listOf(all))
	}
	text := t.lines(all)
	switch {
	case t.again && terminal.IsTerminal(t.out):
		text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J" // in place of what was there
	case t.again:
		text += "\n"
	}
	_, err := io.WriteString(t.out, text)
	return err
}

func (t *top) lines(all []machineUsage) string {
	names := []string{"NAME", "KIND", "CPU", "MEMORY", "TASKS", "DISK", "IN/S", "OUT/S"}
	if t.format == asWide {
		names = append(names, "MACHINE", "CPU TIME", "RECEIVED", "SENT")
	}
	rows := [][]terminal.Cell{t.header(names)}
	for _, u := range all {
		about := ""
		if u.Estimated {
			about = "~"
		}
		texts := []string{
			u.Name, u.Kind, fmt.Sprintf("%.1f%%", u.CPUPercent), known(about, u.Memory), about + fmt.Sprint(u.Tasks), known("", u.Disk),
			terminal.Bytes(int64(u.ReceivedPerSecond)), terminal.Bytes(int64(u.SentPerSecond)),
		}
		if t.format == asWide {
			spent := (time.Duration(u.CPUMicroseconds) * time.Microsecond).Round(10 * time.Millisecond)
			texts = append(texts, u.Machine, spent.String(), terminal.Bytes(int64(u.Received)), terminal.Bytes(int64(u.Sent)))
		}
		var row []terminal.Cell
		for _, text := range texts {
			row = append(row, terminal.Text(text))
		}
		rows = append(rows, row)
	}
	var table terminal.Table
	return table.Format(rows)
}

// known is a size, "" for what is not known.
func known(about string, n int64) string {
	if n == 0 {
		return ""
	}
	return about + terminal.Bytes(n)
}
