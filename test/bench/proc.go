package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cpuAll is the CPU time of all processes of our PID namespace, with that of
// the ended ones that they waited for.
func cpuAll() time.Duration {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var ticks int
	self := strconv.Itoa(os.Getpid())
	for _, d := range dirs {
		own := filepath.Base(d) == self
		f := statFields(d)
		if len(f) < 17 {
			continue
		}
		// utime, stime, cutime, cstime; the prober's own work is not the subject.
		for i, field := range f[13:17] {
			if own && i < 2 {
				continue
			}
			n, _ := strconv.Atoi(field)
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// statFields are those of /proc/PID/stat, numbered from 0; the name, which may
// hold spaces, is one.
func statFields(dir string) []string {
	data, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return nil
	}
	open, end := strings.IndexByte(string(data), '('), strings.LastIndexByte(string(data), ')')
	return append([]string{strings.TrimSpace(string(data[:open])), string(data[open+1 : end])}, strings.Fields(string(data[end+1:]))...)
}

// ticks of one process, user and system; 100 a second.
func ticks(pid int) int {
	f := statFields("/proc/" + strconv.Itoa(pid))
	if len(f) < 15 {
		return 0
	}
	user, _ := strconv.Atoi(f[13])
	system, _ := strconv.Atoi(f[14])
	return user + system
}

// cpu is the exact CPU time of all threads of a process.
func cpu(pid int) time.Duration {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	var sum time.Duration
	for _, t := range tasks {
		data, _ := os.ReadFile(t)
		ns, _, _ := strings.Cut(string(data), " ")
		n, _ := strconv.Atoi(ns)
		sum += time.Duration(n)
	}
	return sum
}

// switches is how often the threads of a process gave up the CPU: what wakes
// up has to.
func switches(pid int) int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	sum := 0
	for _, t := range tasks {
		sum += field(t, "voluntary_ctxt_switches:")
	}
	return sum
}

// field reads a number from a file of lines "name: value".
func field(path, name string) int {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n
		}
	}
	return 0
}

func rssMiB(pid int) float64 {
	return float64(field(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")) / 1024
}

// children are the processes that any thread of pid has started.
func children(pid int) []int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var pids []int
	for _, list := range lists {
		data, _ := os.ReadFile(list)
		for _, f := range strings.Fields(string(data)) {
			n, _ := strconv.Atoi(f)
			pids = append(pids, n)
		}
	}
	return pids
}

// lastPID of our PID namespace: it moves when a process or thread starts.
func lastPID() int {
	data, _ := os.ReadFile("/proc/sys/kernel/ns_last_pid")
	n, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return n
}
