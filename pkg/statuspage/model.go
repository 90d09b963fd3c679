package statuspage

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/why"
)

// mood says whether somebody should look at a thing.
type mood string

const (
	well     mood = "well"
	resting  mood = "resting" // as it was asked to be, and not running
	underWay mood = "under-way"
	trouble  mood = "trouble"
)

// mark goes with a mood beside its colour: not everybody sees that.
func (m mood) mark() string {
	return map[mood]string{well: "●", resting: "○", underWay: "◐", trouble: "▲"}[m]
}

// moodOf an object.
func moodOf(item v1alpha1.Item) mood {
	for _, kind := range []string{v1alpha1.ConditionHeld, v1alpha1.ConditionRolledBack} {
		if c := why.Condition(item, kind); c != nil && !c.Good() && c.Status != v1alpha1.ConditionUnknown {
			return trouble
		}
	}
	if item.Status.Phase.Resting() {
		return resting
	}
	switch item.Status.Phase {
	case v1alpha1.PhaseReady:
		if c := why.Cause(item); c != nil && c.Stale() {
			return trouble
		}
		return well
	case v1alpha1.PhaseDeleting:
		return underWay
	case v1alpha1.PhaseFailed, v1alpha1.PhaseRejected, v1alpha1.PhaseDegraded:
		return trouble
	}
	if c := why.Cause(item); c != nil && !c.Good() && !c.UnderWay() && c.Status == v1alpha1.ConditionFalse {
		return trouble // it waits for somebody
	}
	return underWay
}

// part of a sentence: words, or a command that can be typed.
type part struct {
	Text    string
	Command bool
}

// command is one that the sentences of package why name.
var command = regexp.MustCompile(`tekton (?:secret set NAME < FILE|data list|source \w+ \S+|(?:logs|wait|validate|restart|release-deletes)(?: --[^\s;,]+)* [^\s;,]+(?: --[a-z]+)?)`)

// parts of a sentence that may name commands.
func parts(sentence string) []part {
	var out []part
	end := 0
	for _, at := range command.FindAllStringIndex(sentence, -1) {
		stop := at[0] + len(strings.TrimRight(sentence[at[0]:at[1]], "."))
		out = append(out, part{Text: sentence[end:at[0]]}, part{Text: sentence[at[0]:stop], Command: true})
		end = stop
	}
	return append(out, part{Text: sentence[end:]})
}

// row is an object in the table.
type row struct {
	v1alpha1.Item
	Mood   mood
	Reason string
	Href   string
}

func rowOf(item v1alpha1.Item) row {
	return row{Item: item, Mood: moodOf(item), Reason: why.Reason(item), Href: href(item.Ref())}
}

// href of an object's page.
func href(ref v1alpha1.Ref) string {
	return "/objects/" + url.PathEscape(ref.Kind) + "/" + url.PathEscape(ref.Name)
}

// concern is something that is not well, or not yet.
type concern struct {
	ID     string
	Name   string
	Href   string // "": it has no page
	State  string
	Mood   mood
	Reason string
	Text   string
	Since  time.Time
	Next   []part
}

func concernOf(item v1alpha1.Item, now time.Time) concern {
	c := concern{
		ID: "concern-" + item.Kind + "-" + item.Metadata.Name, Name: item.Ref().String(), Href: href(item.Ref()),
		State: string(item.Status.Phase), Mood: moodOf(item), Reason: why.Reason(item), Next: parts(why.Next(item, now)),
	}
	if cause := why.Cause(item); cause != nil && cause.Stale() {
		c.Text = cause.Message // it has held all the time: since when it is stale nobody knows
	} else if cause != nil && !cause.Good() {
		c.Text, c.Since = cause.Message, cause.LastTransitionTime
	}
	return c
}

// concernOfSource, and whether there is any.
func concernOfSource(s v1alpha1.SourceStatus) (concern, bool) {
	c := concern{ID: "concern-source-" + s.Name, Name: "source/" + s.Name, Href: "/sources", Mood: trouble}
	switch g := s.Git; {
	case len(s.Held) > 0:
		var names []string
		for _, ref := range s.Held {
			names = append(names, ref.String())
		}
		c.State, c.Text, c.Since = "Holds deletions", cmp.Or(s.Message, "more objects are missing than go at once")+": "+strings.Join(names, ", "), s.HeldSince
		c.Next = parts("bring their files back, or let the deletions happen: tekton release-deletes " + s.Name)
	case g != nil && g.Suspended:
		c.State, c.Mood, c.Text = "Suspended", resting, "what is new in its branch is not looked at"
		c.Next = parts("tekton source resume " + s.Name)
	case g != nil && g.Error != "":
		c.State, c.Text = "Newest commit not in effect", g.Error
		c.Next = parts("mend it, then: tekton source sync " + s.Name)
	case !s.Complete:
		c.State, c.Text = "Not read whole", cmp.Or(s.Message, "something of it could not be read")
		c.Next = parts("mend what it says; nothing of this source is deleted meanwhile")
	default:
		return c, false
	}
	return c, true
}

// overview is the first page.
type overview struct {
	Troubles, UnderWay []concern
	Rows               []row
	Counts             map[mood]int
	Total              int
	Query, Only        string
	Latest             []v1alpha1.Event
}

// latestEvents that the first page shows.
const latestEvents = 8

// overviewOf what the daemon has said; query and only select rows of the table.
func overviewOf(v View, query, only string, now time.Time) overview {
	o := overview{Counts: map[mood]int{}, Total: len(v.Items), Query: query, Only: only}
	shown := map[v1alpha1.Ref]bool{}
	for _, item := range v.Items {
		r := rowOf(item)
		o.Counts[r.Mood]++
		switch r.Mood {
		case trouble:
			o.Troubles = append(o.Troubles, concernOf(item, now))
			shown[item.Ref()] = true
		case underWay:
			o.UnderWay = append(o.UnderWay, concernOf(item, now))
		}
		text := strings.ToLower(strings.Join(slices.Concat([]string{item.Ref().String(), string(item.Status.Phase), r.Reason, item.Status.Address}, item.Status.URLs), " "))
		if strings.Contains(text, strings.ToLower(query)) && (only == "" || only == string(r.Mood)) {
			o.Rows = append(o.Rows, r)
		}
	}
	for _, s := range v.Sources {
		if c, any := concernOfSource(s); any && c.Mood == trouble {
			o.Troubles = append(o.Troubles, c)
		}
	}
	for i, p := range v.Problems {
		if p.Name == "" || !shown[v1alpha1.Ref{Kind: p.Kind, Name: p.Name}] {
			o.Troubles = append(o.Troubles, concern{
				ID: fmt.Sprintf("concern-file-%d", i), Name: p.Position.String(), State: "Not taken", Mood: trouble, Reason: p.Reason,
				Text: strings.TrimPrefix(p.Field+": ", ": ") + p.Message, Next: parts("correct it; tekton validate " + p.File + " checks it offline"),
			})
		}
	}
	o.Latest = slices.Clone(v.Events[max(0, len(v.Events)-latestEvents):])
	slices.Reverse(o.Latest)
	return o
}

// Headline is the page in a sentence.
func (o overview) Headline() string {
	switch n := len(o.Troubles); {
	case n == 1:
		return "1 thing needs a look"
	case n > 1:
		return fmt.Sprintf("%d things need a look", n)
	case len(o.UnderWay) > 0:
		return fmt.Sprintf("%d of %d objects on their way", len(o.UnderWay), o.Total)
	case o.Total == 0:
		return "There are no objects yet"
	}
	return "All is well"
}

// object is the page of one.
type object struct {
	row
	Why     []part
	Facts   []fact
	Parts   machine // of the picture
	Events  []v1alpha1.Event
	Verb    string // what a restart is to it; "": there is nothing to start
	LogEnds []logEnd
}

type fact struct{ Name, Text, Href string }

// logEnd is how a failed build's or setup's log ends.
type logEnd struct {
	Of    string
	Lines []string
}

// objectOf an item. ends: what programs print may be shown.
func objectOf(v View, item v1alpha1.Item, ends bool, now time.Time) object {
	o := object{row: rowOf(item), Why: parts(why.Of(item, now)), Parts: machineOf(item), Facts: factsOf(item, now)}
	for _, e := range slices.Backward(v.Events) {
		if e.Object == item.Ref() && (e.UID == "" || e.UID == item.Metadata.UID) {
			o.Events = append(o.Events, e)
		}
	}
	s := item.Status
	switch {
	case s.Phase == v1alpha1.PhaseAsleep:
		o.Verb = "Wake"
	case s.Machine != "":
		o.Verb = "Restart"
	}
	if s.Build != nil && len(s.Build.Log) > 0 && ends {
		o.LogEnds = append(o.LogEnds, logEnd{"build", s.Build.Log})
	}
	if s.Setup != nil && !s.Setup.Running && len(s.Setup.Log) > 0 && ends {
		o.LogEnds = append(o.LogEnds, logEnd{"setup", s.Setup.Log})
	}
	return o
}

func factsOf(item v1alpha1.Item, now time.Time) []fact {
	m, s := item.Metadata, item.Status
	var facts []fact
	add := func(name, text string) {
		if text != "" && text != "0" {
			facts = append(facts, fact{Name: name, Text: text})
		}
	}
	for _, u := range s.URLs {
		facts = append(facts, fact{Name: "URL", Text: u, Href: u})
	}
	add("Address", s.Address)
	add("Machine", s.Machine)
	add("Up for", terminal.Since(s.StartedAt, now))
	add("Restarts", fmt.Sprint(s.Restarts))
	if s.SSH != nil {
		add("SSH", "tekton agent ssh "+m.Name+" (as "+s.SSH.User+")")
	}
	if b := s.Build; b != nil && b.Running {
		add("Build", fmt.Sprintf("%s, %d of %d done, for %s", b.Phase, b.Done, b.Expected, terminal.Since(b.StartedAt, now)))
	} else if b != nil {
		add("Built from", b.Locked)
	}
	if s.Setup != nil {
		add("Set up for", s.Setup.Done)
	}
	if r := s.Repository; r != nil {
		add("Previews", strings.TrimSuffix(fmt.Sprintf("%d of %d", r.Previews, r.Max), " of 0"))
	}
	for _, c := range s.Certificates {
		if c.NotAfter.IsZero() {
			add("Certificate", strings.TrimSuffix(c.Host+": none yet, "+c.Message, ", "))
		} else {
			add("Certificate", c.Host+": valid until "+c.NotAfter.UTC().Format(time.DateOnly))
		}
	}
	if !s.ExpiresAt.IsZero() {
		add("Its ttl is over", terminal.Until(s.ExpiresAt, now))
	}
	add("Source", strings.TrimSpace(fmt.Sprintf("%s %s:%d", m.Source.Name, m.Source.File, m.Source.Line)))
	add("Generation", fmt.Sprintf("%d (observed %d)", m.Generation, s.ObservedGeneration))
	add("UID", m.UID)
	return facts
}
