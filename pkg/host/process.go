package host

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
)

// ProcessStart is when a process was started, in ticks since the host's boot:
// with its id it is that of one process only.
func ProcessStart(pid int) (string, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	// The command, in parentheses, may hold anything. The 22nd field is the start.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return "", errors.New("/proc/PID/stat has too few fields")
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return "", os.ErrProcessDone
	}
	return fields[19], nil
}
