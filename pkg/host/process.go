package host

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
)

// ProcessStart is when a process was started, in ticks since the host's boot:
// with its id it is that of one process only. It is os.ErrProcessDone of one
// that has ended, also when nobody has waited for it yet.
//
// While a thread executes a program, as tekton-init's does with the machine's
// init, the process's first thread is a zombie until the other one takes its
// place (de_thread in the kernel's fs/exec.c): a zombie that is not the last
// thread has not ended, and at the moment of the change a second look tells.
func ProcessStart(pid int) (string, error) {
	start, ended, err := readStat(pid)
	for again := 3; ended && again > 0; again-- {
		start, ended, err = readStat(pid)
	}
	if ended {
		return "", os.ErrProcessDone
	}
	return start, err
}

// ProcessStatus are the lines of /proc/PID/status, by what is before the colon.
func ProcessStatus(pid int) (map[string]string, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return nil, err
	}
	status := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		status[name] = strings.TrimSpace(value)
	}
	return status, nil
}

func readStat(pid int) (start string, ended bool, err error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", false, err
	}
	// The command, in parentheses, may hold anything. After it come the fields from
	// the third on (proc(5)): the state, as the 20th the threads, as the 22nd the start.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return "", false, errors.New("/proc/PID/stat has too few fields")
	}
	state, threads := fields[0], fields[17]
	return fields[19], (state == "Z" || state == "X") && (threads == "0" || threads == "1"), nil
}
