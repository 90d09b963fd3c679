package statuspage

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
)

// picture is the host as a drawing: what comes in at the left, machines in the
// middle, their data at the right. Text is the same as a table.
type picture struct {
	Width, Height int
	Boxes         []box
	Lines         []line
	Machines      []machine
}

// machine is an object with what leads to it and what it has.
type machine struct {
	v1alpha1.Item
	Mood   mood
	Href   string
	Routes []string
	Ports  []string
	Links  []link
	Data   []data
}

type link struct {
	To   string
	Port int
}

type data struct{ What, Name string }

// box of the drawing. Its text is cut where it would not fit.
type box struct {
	X, Y, W, H  int
	Class       string
	Title, Note string
}

// line from one box to another. Label is at its middle.
type line struct {
	Path   string
	Class  string
	Label  string
	LX, LY int
}

// machineOf an object: its URLs are known of any kind, the rest of those whose spec says it.
func machineOf(item v1alpha1.Item) machine {
	var spec struct {
		Databases []v1alpha1.Database `json:"databases"`
		Volumes   []v1alpha1.Volume   `json:"volumes"`
		Network   v1alpha1.Network    `json:"network"`
	}
	if text, err := json.Marshal(item.Spec); err == nil {
		// A spec of a newer daemon may not fit, and what is not understood is not drawn.
		_ = json.Unmarshal(text, &spec)
	}
	m := machine{Item: item, Mood: moodOf(item), Href: href(item.Ref())}
	for _, u := range item.Status.URLs {
		if at, err := url.Parse(u); err == nil && at.Host != "" {
			m.Routes = append(m.Routes, at.Host+strings.TrimSuffix(at.Path, "/"))
		}
	}
	for _, p := range spec.Network.Ports {
		m.Ports = append(m.Ports, strings.TrimPrefix(fmt.Sprintf("%s:%d/%s", p.HostIP, p.HostPort, p.Protocol), ":"))
	}
	for _, l := range spec.Network.Links {
		m.Links = append(m.Links, link{l.To, l.Port})
	}
	for _, d := range spec.Databases {
		m.Data = append(m.Data, data{"database", d.Name})
	}
	for _, v := range spec.Volumes {
		m.Data = append(m.Data, data{"volume", v.Name})
	}
	return m
}

// The drawing's measures: columns at fixed places, so that it does not jump when
// something comes or goes.
const (
	boxHeight, rowGap   = 34, 12
	hostX, hostW        = 10, 130
	routeX, routeW      = 190, 250
	machineX, machineW  = 500, 220
	dataX, dataW        = 800, 190
	pictureW, pictureY0 = 1000, 36
)

// pictureOf the objects that have, or may have, a machine.
func pictureOf(items []v1alpha1.Item, host string) picture {
	p := picture{Width: pictureW}
	y := pictureY0
	middle := map[string]int{} // of machines' boxes, by name
	for _, item := range items {
		if item.Kind == "Repository" {
			continue
		}
		m := machineOf(item)
		p.Machines = append(p.Machines, m)
		in := slices.Concat(m.Routes, m.Ports)
		rows := max(1, len(in), len(m.Data))
		height := rows*(boxHeight+rowGap) - rowGap
		center := y + height/2
		middle[item.Metadata.Name] = center
		p.machine(m, center)
		for i, text := range in {
			p.incoming(text, i < len(m.Routes), spread(y, height, len(in), i), center, m.Mood)
		}
		for i, d := range m.Data {
			p.data(d, spread(y, height, len(m.Data), i), center)
		}
		y += height + 2*rowGap
	}
	p.Height = max(y, pictureY0+boxHeight)
	p.links(middle)
	p.host(host)
	return p
}

// spread returns the middle of the i-th of n boxes beside one of a height.
func spread(y, height, n, i int) int {
	step := boxHeight + rowGap
	return y + height/2 - (n*step-rowGap)/2 + i*step + boxHeight/2
}

func (p *picture) machine(m machine, center int) {
	p.Boxes = append(p.Boxes, box{
		X: machineX, Y: center - boxHeight/2, W: machineW, H: boxHeight, Class: "machine " + string(m.Mood),
		Title: short(m.Mood.mark()+" "+m.Metadata.Name, 26), Note: strings.TrimSpace(string(m.Status.Phase) + " " + m.Status.Address),
	})
}

func (p *picture) incoming(text string, route bool, y, center int, of mood) {
	class := "port"
	if route {
		class = "route"
	}
	p.Boxes = append(p.Boxes, box{X: routeX, Y: y - boxHeight/2, W: routeW, H: boxHeight, Class: class, Title: short(text, 32), Note: class})
	p.Lines = append(p.Lines, line{Path: curve(routeX+routeW, y, machineX, center), Class: "to " + string(of)})
}

func (p *picture) data(d data, y, center int) {
	p.Boxes = append(p.Boxes, box{X: dataX, Y: y - boxHeight/2, W: dataW, H: boxHeight, Class: d.What, Title: short(d.Name, 24), Note: d.What})
	p.Lines = append(p.Lines, line{Path: curve(machineX+machineW, center, dataX, y), Class: "has"})
}

// links bow out at the right of the machines, with the port at the bow.
func (p *picture) links(middle map[string]int) {
	for _, m := range p.Machines {
		for _, l := range m.Links {
			to, there := middle[l.To]
			if !there {
				continue // the table says that it leads nowhere
			}
			from, x := middle[m.Metadata.Name]+6, machineX+machineW
			if to > from {
				to -= 6
			}
			// The longer, the farther out: those to one machine do not lie on each other.
			bow := 24 + min(max(to-from, from-to)/6, 40)
			p.Lines = append(p.Lines, line{
				Path:  fmt.Sprintf("M%d %d C%d %d %d %d %d %d", x, from, x+bow, from, x+bow, to, x+2, to),
				Class: "link", Label: fmt.Sprintf(":%d", l.Port), LX: x + bow*3/4 + 4, LY: (from+to)/2 + 4,
			})
		}
	}
}

// host is one box beside all that comes in by it.
func (p *picture) host(name string) {
	center := p.Height / 2
	var lines []line
	for _, b := range p.Boxes {
		if b.X == routeX {
			lines = append(lines, line{Path: curve(hostX+hostW, center, b.X, b.Y+b.H/2), Class: "in"})
		}
	}
	p.Lines = append(lines, p.Lines...)
	p.Boxes = append(p.Boxes, box{X: hostX, Y: center - boxHeight/2, W: hostW, H: boxHeight, Class: "host", Title: short(name, 15), Note: "host"})
}

func curve(x1, y1, x2, y2 int) string {
	half := (x1 + x2) / 2
	return fmt.Sprintf("M%d %d C%d %d %d %d %d %d", x1, y1, half, y1, half, y2, x2, y2)
}

// short is a text of at most n characters.
func short(text string, n int) string {
	if r := []rune(text); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return text
}
