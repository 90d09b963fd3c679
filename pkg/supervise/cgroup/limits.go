package cgroup

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"tekton.host/pkg/supervise/contract"
)

// cpuPeriod of cpu.max in microseconds, the kernel's default.
const cpuPeriod = 100_000

// setting is one limit as a file of the group.
type setting struct {
	limit      string // field of contract.Limits, for messages
	controller string
	file       string
	want       string // "": no limit is asked for
	none       string // what the file says without a limit
	prefix     string // before the value, when the file is a list
}

func settings(l contract.Limits) []setting {
	number := func(v int64) string {
		if v == 0 {
			return ""
		}
		return strconv.FormatInt(v, 10)
	}
	quota := ""
	if l.CPUQuota > 0 {
		quota = fmt.Sprintf("%d %d", l.CPUQuota*cpuPeriod/100, cpuPeriod)
	}
	return []setting{
		{"memoryMax", "memory", "memory.max", number(l.MemoryMax), "max", ""},
		{"memoryHigh", "memory", "memory.high", number(l.MemoryHigh), "max", ""},
		{"cpuQuota", "cpu", "cpu.max", quota, fmt.Sprintf("max %d", cpuPeriod), ""},
		{"cpuWeight", "cpu", "cpu.weight", number(int64(l.CPUWeight)), "100", ""},
		{"ioWeight", "io", "io.weight", number(int64(l.IOWeight)), "100", "default "},
		{"tasksMax", "pids", "pids.max", number(int64(l.TasksMax)), "max", ""},
	}
}

// Controllers returns the controllers that l needs.
func Controllers(l contract.Limits) []string {
	var out []string
	for _, s := range settings(l) {
		if s.want != "" && !slices.Contains(out, s.controller) {
			out = append(out, s.controller)
		}
	}
	return out
}

// Limit applies l to the group and returns which limits are not enforced and
// why, "" when all are. What is so already is not written: under systemd the
// files are systemd's, which has written the same values.
func (g Group) Limit(l contract.Limits) (unenforced string) {
	var problems []string
	for _, s := range settings(l) {
		have := g.read(s.file)
		switch {
		case have == "" && s.want != "":
			problems = append(problems, s.limit+": "+g.missing(s))
			continue
		case have == "":
			continue
		}
		want := s.want
		if want == "" {
			want = s.none
		}
		if have == s.prefix+want {
			continue
		}
		if err := g.write(s.file, s.prefix+want); err != nil {
			problems = append(problems, fmt.Sprintf("%s: write %q to %s: %v", s.limit, want, s.file, err))
		}
	}
	return strings.Join(problems, "; ")
}

// Enable hands controllers down to the groups inside this one. Those that
// cannot be are left out; Limit names them later, with the reason.
func (g Group) Enable(controllers []string) {
	have := strings.Fields(g.read("cgroup.subtree_control"))
	for _, c := range controllers {
		if !slices.Contains(have, c) {
			_ = g.write("cgroup.subtree_control", "+"+c)
		}
	}
}

// Available returns the controllers that the group may hand down.
func (g Group) Available() []string { return strings.Fields(g.read("cgroup.controllers")) }

// missing says why the file of a limit is not there.
func (g Group) missing(s setting) string {
	hierarchy, enabled, known := controller(s.controller)
	switch {
	case slices.Contains(g.Available(), s.controller):
		return "this kernel has no " + s.file
	case slices.Contains(g.host.Group("/").Available(), s.controller):
		return "the " + s.controller + " controller is not handed down to cgroup " + g.path
	case known && !enabled:
		return "the " + s.controller + " controller is disabled on the kernel's command line"
	case known && hierarchy != 0:
		return "the " + s.controller + " controller is bound to a cgroup v1 hierarchy; boot with cgroup v2 alone"
	}
	return "this kernel has no " + s.controller + " controller"
}

// Unenforced says for each controller that limits need why this host does not
// have it; empty when it has all.
func (h Host) Unenforced() map[string]string {
	root, out := h.Group("/"), map[string]string{}
	for _, s := range settings(contract.Limits{}) {
		if !slices.Contains(root.Available(), s.controller) {
			out[s.controller] = root.missing(s)
		}
	}
	return out
}

// controller reads a line of /proc/cgroups: name, v1 hierarchy, groups, enabled.
func controller(name string) (hierarchy int, enabled, known bool) {
	if name == "io" {
		name = "blkio"
	}
	b, _ := os.ReadFile("/proc/cgroups")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 4 && f[0] == name {
			hierarchy, _ = strconv.Atoi(f[1])
			return hierarchy, f[3] == "1", true
		}
	}
	return 0, false, false
}
