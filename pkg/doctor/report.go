package doctor

import (
	"cmp"
	"fmt"
	"io/fs"
	"strconv"
)

// Level of a finding.
type Level string

// Levels, the worst last.
const (
	OK      Level = "ok"
	Unknown Level = "unknown" // it could not be looked at
	Warning Level = "warning" // it works, but less well or less safely than it could
	Error   Level = "error"   // something of tekton does not work on this host
)

// Finding is what one check found.
type Finding struct {
	Group string `json:"group"`
	Check string `json:"check"`
	Level Level  `json:"level"`
	Says  string `json:"says"`
	// Where it was found, or who says that a version is bad.
	Where string `json:"where,omitempty"`
	// Fix is what to do, for people.
	Fix string `json:"fix,omitempty"`
	// Changes are what doctor --fix does about it.
	Changes []Change `json:"changes,omitempty"`
}

// Report of all checks, group by group.
type Report struct {
	Findings []Finding `json:"findings"`
}

// Count is the number of findings of a level.
func (r Report) Count(l Level) (n int) {
	for _, f := range r.Findings {
		if f.Level == l {
			n++
		}
	}
	return n
}

// Changes are those of all findings, each once.
func (r Report) Changes() []Change {
	var out []Change
	seen := map[Change]bool{}
	for _, f := range r.Findings {
		for _, c := range f.Changes {
			if !seen[c] {
				seen[c] = true
				out = append(out, c)
			}
		}
	}
	return out
}

// Kinds of changes.
const (
	MakeDir     = "mkdir"   // Path with Mode; an existing one is left as it is
	SetMode     = "chmod"   // of Path to Mode
	WriteFile   = "write"   // Path with Text, in directories that are made
	SetSetting  = "sysctl"  // the kernel's setting Path to Text, until the next boot
	RemoveTrial = "cleanup" // what a doctor that was killed has left at Path
)

// Perm is the permissions of a file, as chmod takes them.
type Perm fs.FileMode

func (p Perm) String() string { return fmt.Sprintf("%04o", uint32(p)) }

// MarshalText implements encoding.TextMarshaler.
func (p Perm) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Perm) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 32)
	*p = Perm(n)
	return err
}

// Change is one thing that doctor --fix does.
type Change struct {
	Kind string `json:"kind"`
	Path string `json:"path"`
	Mode Perm   `json:"mode,omitempty"`
	Text string `json:"text,omitempty"`
}

// String is what is shown before it is done.
func (c Change) String() string {
	switch c.Kind {
	case MakeDir:
		return fmt.Sprintf("make the directory %s, mode %s", c.Path, c.Mode)
	case SetMode:
		return fmt.Sprintf("set the mode of %s to %s", c.Path, c.Mode)
	case WriteFile:
		return fmt.Sprintf("write %s:\n%s", c.Path, c.Text)
	case SetSetting:
		return fmt.Sprintf("set %s to %s", c.Path, c.Text)
	case RemoveTrial:
		return "remove what is left of a throw-away machine at " + c.Path
	}
	return c.Kind + " " + c.Path
}

// judge collects findings.
type judge struct {
	f     Facts
	group string
	found []Finding
}

// Judge says what the facts mean.
func Judge(f Facts) Report {
	j := &judge{f: f}
	for _, g := range []struct {
		name  string
		check func()
	}{
		{"Configuration", j.configuration}, {"Programs", j.programs}, {"Kernel", j.kernel}, {"Network", j.network},
		{"Firewall", j.firewall}, {"Ports", j.ports}, {"Files", j.files}, {"Disk", j.disks}, {"Daemon", j.daemon}, {"Sources", j.sources},
	} {
		j.group = g.name
		g.check()
	}
	return Report{Findings: j.found}
}

func (j *judge) add(f Finding) {
	f.Group, f.Level = j.group, cmp.Or(f.Level, OK)
	j.found = append(j.found, f)
}

func (j *judge) ok(check, format string, args ...any) {
	j.add(Finding{Check: check, Says: fmt.Sprintf(format, args...)})
}

// unseen is what only root can look at, or what could not be looked at.
func (j *judge) unseen(check, why string) {
	fix := ""
	if !j.f.Root {
		why, fix = cmp.Or(why, "only root can look"), "sudo tekton doctor"
	}
	j.add(Finding{Check: check, Level: Unknown, Says: why, Fix: fix})
}
