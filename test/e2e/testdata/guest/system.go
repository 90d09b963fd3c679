package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// A system is a store path whose init and bin/switch-to-configuration are this
// program. Its file "mode" says what it does:
//
//	(nothing)  serves, and says READY=1 then
//	silent     serves and never says that it is up
//	crash      ends with code 7
//	stubborn   ignores every signal
//	noswitch   refuses to be switched to
//
// generationFile has the generation of the system that runs, also after a
// switch; of one without, the environment tells it. switchedFile says what user
// ids the switch had.
const (
	generationFile = "/run/generation"
	switchedFile   = "/var/switched"
)

// runSystem does what a system's program is for, when it was started as one.
func runSystem() bool {
	switch filepath.Base(os.Args[0]) {
	case "init":
		boot(filepath.Dir(os.Args[0]))
	case "switch-to-configuration":
		switchTo(filepath.Dir(filepath.Dir(os.Args[0])))
	case "su": // of nixos-container: what it is asked for, and where
		name, err := os.Hostname()
		must(err)
		fmt.Println("su in "+name+":", strings.Join(os.Args[1:], " "))
	default:
		return false
	}
	return true
}

// unescape is what systemd does to an EnvironmentFile's values in quotes.
var unescape = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\$`, `$`, "\\`", "`")

func setting(system, name string) string {
	b, _ := os.ReadFile(filepath.Join(system, name))
	return strings.TrimSpace(string(b))
}

func boot(system string) {
	mode := setting(system, "mode")
	if mode == "crash" {
		fmt.Println("cannot find my keys")
		os.Exit(7)
	}
	for line := range strings.Lines(setting("/run", "tekton-environment") + "\n") {
		if k, v, found := strings.Cut(strings.TrimSpace(line), "="); found {
			os.Setenv(k, unescape.Replace(strings.Trim(v, `"`)))
		}
	}
	must(setGeneration(system))
	const halt, powerOff = syscall.Signal(34 + 3), syscall.Signal(34 + 4) // SIGRTMIN+3, +4
	ctx, stop := signal.NotifyContext(context.Background(), halt, powerOff, syscall.SIGTERM)
	defer stop()
	if mode == "stubborn" {
		ctx = context.Background()
	}
	go reap()
	if mode != "silent" {
		go ready()
	}
	serve(ctx)
}

// ready tells systemd-nspawn that the system is up; it listens to PID 1 only.
func ready() {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return // nobody waits for it
	}
	conn, err := net.Dial("unixgram", socket)
	must(err)
	defer conn.Close()
	_, err = conn.Write([]byte("READY=1"))
	must(err)
}

// reap ends orphans, as an init does.
func reap() {
	died := make(chan os.Signal, 8)
	signal.Notify(died, syscall.SIGCHLD)
	for range died {
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != nil || pid <= 0 {
				break
			}
		}
	}
}

func switchTo(system string) {
	if len(os.Args) < 2 || os.Args[1] != "test" {
		fmt.Println("want: switch-to-configuration test")
		os.Exit(2)
	}
	if setting(system, "mode") == "noswitch" {
		fmt.Println("the following units failed: keys.service")
		os.Exit(4)
	}
	ids, err := os.ReadFile("/proc/self/uid_map")
	must(err)
	must(os.WriteFile(switchedFile, ids, 0o644))
	must(setGeneration(system))
}

func setGeneration(system string) error {
	generation := setting(system, "generation")
	if generation == "" {
		return nil
	}
	return os.WriteFile(generationFile, []byte(generation), 0o644)
}
