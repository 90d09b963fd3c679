package supervise_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// roles are what a supervised process can be told to do, by the first word.
var roles = map[string]func(args []string){
	"exit": func(args []string) {
		code, _ := strconv.Atoi(args[0])
		fmt.Println("leaving with", code)
		os.Exit(code)
	},
	"sleep": func([]string) {
		sleepForever()
	},
	"ready": func([]string) {
		tell("READY=1\nX_NSPAWN_LEADER_PID=" + strconv.Itoa(os.Getpid()))
		sleepForever()
	},
	// only a child of the process says READY=1
	"forged": func([]string) {
		child(helperEnv + "=ready")
		sleepForever()
	},
	"stubborn": func([]string) {
		signal.Ignore(syscall.SIGTERM)
		tell("READY=1")
		sleepForever()
	},
	// leaves a child and a grandchild in sessions of their own
	"daemon": func([]string) {
		child(helperEnv + "=parent")
		sleepForever()
	},
	"parent": func([]string) {
		child(helperEnv + "=stubborn")
	},
	// ends, its children do not
	"abandon": func([]string) {
		child(helperEnv + "=parent")
		for !abandoned() {
			time.Sleep(time.Millisecond)
		}
		os.Exit(3)
	},
	"log": func(args []string) {
		lines, _ := strconv.Atoi(args[0])
		w := bufio.NewWriter(os.Stdout)
		for i := range lines {
			fmt.Fprintf(w, "line %06d\n", i)
		}
		w.Flush()
		tell("READY=1")
		sleepForever()
	},
	// a line for every SIGUSR1
	"talk": func([]string) {
		signals := make(chan os.Signal, 8)
		signal.Notify(signals, syscall.SIGUSR1)
		tell("READY=1")
		for i := 0; ; i++ {
			fmt.Println("said", i)
			<-signals
		}
	},
	// uses so many MiB
	"hog": func(args []string) {
		size, _ := strconv.Atoi(args[0])
		memory := make([]byte, size<<20)
		for i := 0; i < len(memory); i += 4096 {
			memory[i] = 1
		}
		fmt.Println("fed")
		sleepForever()
	},
	// up to so many children
	"fork": func(args []string) {
		count, _ := strconv.Atoi(args[0])
		for i := range count {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), helperEnv+"=sleep")
			if err := cmd.Start(); err != nil {
				fmt.Println("fork failed:", i, err)
				break
			}
		}
		sleepForever()
	},
	"whoami": func([]string) {
		groups, _ := os.Getgroups()
		wd, _ := os.Getwd()
		fmt.Println(os.Getuid(), os.Getgid(), groups, wd, os.Environ())
		tell("READY=1")
		sleepForever()
	},
}

func sleepForever() {
	for {
		time.Sleep(time.Hour)
	}
}

// abandoned reports whether the grandchild's parent is gone.
func abandoned() bool {
	b, _ := os.ReadFile("/proc/self/task/" + strconv.Itoa(os.Getpid()) + "/children")
	return len(b) == 0
}

func child(env string) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), env)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go cmd.Wait()
}

func tell(text string) {
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		return
	}
	conn.Write([]byte(text))
	conn.Close()
}
