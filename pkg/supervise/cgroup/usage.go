package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what a group has used, and uses.
type Usage struct {
	CPU    time.Duration
	Memory int64 // bytes, without file contents that can be dropped at once
	Tasks  int
	// Estimated: the kernel does not count the group's memory and tasks. They are
	// sums over its processes, in which shared memory is counted repeatedly.
	Estimated bool
}

// Usage reads what the group and those inside it use. A group without the
// controllers for memory and tasks asks its processes.
func (g Group) Usage() (u Usage, err error) {
	usec, err := g.keyed("cpu.stat", "usage_usec")
	if err != nil {
		return u, fmt.Errorf("read the usage of cgroup %s: %w", g.path, err)
	}
	u.CPU = time.Duration(usec) * time.Microsecond
	memory, errMemory := g.number("memory.current")
	tasks, errTasks := g.number("pids.current")
	if errMemory == nil && errTasks == nil {
		cache, err := g.keyed("memory.stat", "inactive_file")
		u.Memory, u.Tasks = max(memory-cache, 0), int(tasks)
		return u, err
	}
	if err := errors.Join(ignoreGone(errMemory), ignoreGone(errTasks)); err != nil {
		return u, err
	}
	pids, err := g.Procs()
	if err != nil {
		return u, err
	}
	sum := ofProcesses(pids)
	u.Memory, u.Tasks, u.Estimated = sum.Memory, sum.Tasks, true
	if errMemory == nil {
		u.Memory = memory
	}
	return u, nil
}

func (g Group) number(file string) (int64, error) {
	b, err := os.ReadFile(g.Dir() + "/" + file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// keyed is a value of a file of lines "KEY VALUE"; 0 when it is not there.
func (g Group) keyed(file, key string) (int64, error) {
	b, err := os.ReadFile(g.Dir() + "/" + file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, key+" "); ok {
			return strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
	}
	return 0, nil
}

// Fields of /proc/PID/stat after the command's name.
const (
	statThreads  = 17
	statResident = 21 // pages
)

// ofProcesses sums up what processes use; those that are gone use nothing.
func ofProcesses(pids []int) (u Usage) {
	page := int64(os.Getpagesize())
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(fields) <= statResident {
			continue
		}
		threads, _ := strconv.Atoi(fields[statThreads])
		resident, _ := strconv.ParseInt(fields[statResident], 10, 64)
		u.Tasks += threads
		u.Memory += resident * page
	}
	return u
}
