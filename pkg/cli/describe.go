package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/why"
)

func (a *app) describeCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "describe NAME...",
		Short:             "Show all about objects, and at the end why they are so",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			separate := func() {}
			events, failed := a.eventsByUID(cmd.Context())
			err := a.forEach(cmd, args, func(item v1alpha1.Item) error {
				separate()
				separate = func() { fmt.Fprintln(a.out) }
				a.describe(item, events[item.Metadata.UID])
				return nil
			})
			return cmp.Or(err, failed)
		},
	}
}

// described is what describe shows of any kind's spec on its own lines.
type described struct {
	Trust     string              `json:"trust"`
	Databases []v1alpha1.Database `json:"databases"`
	Volumes   []v1alpha1.Volume   `json:"volumes"`
	Mounts    []v1alpha1.Mount    `json:"mounts"`
	Network   v1alpha1.Network    `json:"network"`
	Caps      []string            `json:"capabilities"`
	Reason    string              `json:"reason"`
}

func describedOf(item v1alpha1.Item) described {
	var d described
	if text, err := json.Marshal(item.Spec); err == nil {
		// A spec of a newer daemon may not fit; it is still printed whole below.
		_ = json.Unmarshal(text, &d)
	}
	return d
}

func (a *app) describe(item v1alpha1.Item, events []v1alpha1.Event) {
	m, s, d := item.Metadata, item.Status, describedOf(item)
	var facts [][]terminal.Cell
	fact := func(name, format string, args ...any) {
		if text := fmt.Sprintf(format, args...); text != "" {
			facts = append(facts, []terminal.Cell{{Text: name + ":", Paint: a.data.Bold}, terminal.Text(text)})
		}
	}
	fact("Name", "%s", m.Name)
	fact("Kind", "%s", item.Kind)
	phase := a.data.phase(s.Phase)
	facts = append(facts, []terminal.Cell{{Text: "Phase:", Paint: a.data.Bold}, phase})
	fact("Reason", "%s", d.Reason)
	fact("UID", "%s", m.UID)
	fact("Source", "%s", joined(" ", m.Source.Name, position(m.Source)))
	fact("Generation", "%d (observed %d)", m.Generation, s.ObservedGeneration)
	fact("Labels", "%s", pairs(m.Labels))
	if s.Machine != "" {
		fact("Machine", "%s", a.machine(s))
	}
	if s.SSH != nil {
		fact("SSH", "as %s, host key %s", s.SSH.User, s.SSH.HostKey)
	}
	fact("Expires", "%s", a.timestamp(s.ExpiresAt))
	fact("Asleep since", "%s", a.timestamp(s.AsleepSince))
	if r := s.Repository; r != nil {
		fact("Previews", "%d%s", r.Previews, labelled(" of ", atMost(r.Max)))
	}
	if s.Build != nil {
		fact("Build", "%s", a.build(*s.Build))
		fact("Built from", "%s", s.Build.Locked)
		fact("Store path", "%s", s.Build.StorePath)
	}
	if s.Setup != nil {
		fact("Setup", "%s", a.setup(*s.Setup))
		fact("Set up for", "%s", s.Setup.Done)
	}
	for _, url := range s.URLs {
		fact("URL", "%s", url)
	}
	for _, c := range s.Certificates {
		fact("Certificate", "%s", certificate(c))
	}
	for _, db := range d.Databases {
		fact("Database", "%s", joined(", ", db.Name, labelled("URL in $", db.Env), labelled("on deletion ", db.DeletionPolicy)))
	}
	for _, v := range d.Volumes {
		fact("Volume", "%s", joined(", ", v.Name, "at "+v.Path, labelled("on deletion ", v.DeletionPolicy)))
	}
	var t terminal.Table
	io.WriteString(a.out, t.Format(facts))
	a.describeConditions(s)
	a.describeSetupLog(s)
	for _, r := range relaxations(d) {
		fmt.Fprintf(a.out, "%s %s\n", a.data.Yellow("warning:"), terminal.Escape(r))
	}
	a.describeSpec(item)
	if len(events) > 0 {
		fmt.Fprintln(a.out, a.data.Bold("Events:"))
	}
	for _, e := range events {
		fmt.Fprintf(a.out, "  %s\n", a.event(e))
	}
	a.say("%s", why.Of(item, a.now()))
}

// atMost is a limit; "" where there is none.
func atMost(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func (a *app) machine(s v1alpha1.Status) string {
	return joined(", ", s.Machine, labelled("slot ", fmt.Sprint(s.Slot)), s.Address,
		labelled("up ", terminal.Since(s.StartedAt, a.now())), plural(s.Restarts, "restart"))
}

// build says what is built, n of m, for how long; or how that went.
func (a *app) build(b v1alpha1.BuildStatus) string {
	if !b.Running {
		what := "ended"
		if len(b.Log) > 0 {
			what = "failed"
		}
		return labelled(what+" ", a.timestamp(b.EndedAt))
	}
	counts := ""
	if b.Expected > 0 {
		counts = fmt.Sprintf("%d of %d done", b.Done, b.Expected)
	}
	return joined(", ", joined(" ", b.Phase, strings.Join(b.Building, " and ")), counts, labelled("for ", terminal.Since(b.StartedAt, a.now())))
}

// setup says what is done inside the machine, for which revision; or how that went.
func (a *app) setup(s v1alpha1.SetupStatus) string {
	if s.Running {
		return joined(", ", joined(" ", s.Phase, s.Revision), labelled("for ", terminal.Since(s.StartedAt, a.now())))
	}
	what := "ended"
	if s.Done != s.Revision || len(s.Log) > 0 {
		what = "failed"
	}
	return joined(", ", s.Revision, labelled(what+" ", a.timestamp(s.EndedAt)))
}

// describeSetupLog prints how a failed setup ended.
func (a *app) describeSetupLog(s v1alpha1.Status) {
	if s.Setup == nil || s.Setup.Running || len(s.Setup.Log) == 0 {
		return
	}
	fmt.Fprintln(a.out, a.data.Bold("Setup log:"))
	for _, line := range s.Setup.Log {
		fmt.Fprintf(a.out, "  %s\n", terminal.Escape(line))
	}
}

func (a *app) describeConditions(s v1alpha1.Status) {
	if len(s.Conditions) == 0 {
		return
	}
	fmt.Fprintln(a.out, a.data.Bold("Conditions:"))
	rows := [][]terminal.Cell{a.header([]string{"  TYPE", "STATUS", "REASON", "SINCE", "NEXT RETRY", "MESSAGE"})}
	for _, c := range s.Conditions {
		paint := a.data.Yellow
		if c.Good() && !c.Stale() {
			paint = a.data.Green
		}
		retry := ""
		if !c.NextRetry.IsZero() {
			retry = terminal.Until(c.NextRetry, a.now())
		}
		rows = append(rows, []terminal.Cell{
			terminal.Text("  " + c.Type), {Text: string(c.Status), Paint: paint}, terminal.Text(c.Reason),
			terminal.Text(terminal.Since(c.LastTransitionTime, a.now())), terminal.Text(retry), terminal.Text(c.Message),
		})
	}
	var t terminal.Table
	io.WriteString(a.out, t.Format(rows))
}

func (a *app) describeSpec(item v1alpha1.Item) {
	if item.Spec == nil {
		return
	}
	text, err := yaml.Marshal(item.Spec)
	if err != nil {
		return
	}
	fmt.Fprintln(a.out, a.data.Bold("Spec:"))
	for line := range strings.Lines(terminal.EscapeLines(string(text))) {
		io.WriteString(a.out, "  "+line)
	}
}

// relaxations are what an object may do beyond the default profile.
func relaxations(d described) []string {
	var r []string
	add := func(format string, args ...any) { r = append(r, fmt.Sprintf(format, args...)) }
	if d.Trust == "trusted" {
		add("trust: trusted: the machine may be given what breaks its isolation")
	}
	for _, m := range d.Mounts {
		mode := "read and write"
		if m.ReadOnly == nil || *m.ReadOnly {
			mode = "read"
		}
		add("mounts: it can %s the host's %s at %s", mode, m.HostPath, m.Path)
	}
	if len(d.Caps) > 0 {
		add("capabilities: it keeps %s", strings.Join(d.Caps, ", "))
	}
	if d.Network.Egress.Mode == "all" {
		add("network.egress.mode: all: it reaches private networks too")
	}
	if len(d.Network.Egress.Allow) > 0 {
		add("network.egress.allow: it also reaches %s", strings.Join(d.Network.Egress.Allow, ", "))
	}
	for _, l := range d.Network.Links {
		add("network.links: it reaches port %d of %s", l.Port, l.To)
	}
	for _, p := range d.Network.Ports {
		add("network.ports: port %d of the host leads to it", p.HostPort)
	}
	return r
}

func joined(sep string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), sep)
}

func labelled(label, text string) string {
	if text == "" || text == "0" {
		return ""
	}
	return label + text
}

func pairs(m map[string]string) string {
	var all []string
	for k, v := range m {
		all = append(all, k+"="+v)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// timestamp is how tables show a moment.
func (a *app) timestamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	if d := t.Sub(a.now()); d > 0 {
		return "in " + terminal.Age(d)
	}
	return terminal.Since(t, a.now()) + " ago"
}
