// Command guest is what the tests run inside machines. Its first argument
// chooses what it does:
//
//	serve     HTTP on :8080 (what it knows about itself) until SIGTERM
//	stubborn  the same, ignoring SIGTERM
//	crash     a line with control characters on stdout, then exit 7
//	zombies   leaves orphans behind, then serves
//	init      serves as PID 1 until SIGRTMIN+3, reaping
//
// As a system's init it does what the file "mode" beside it says, and says that
// it is up where somebody waits for that.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	mode := "init" // executed as a system's init there are no arguments
	if len(os.Args) > 1 {
		mode = os.Args[1]
	} else if m := read(filepath.Join(filepath.Dir(os.Args[0]), "mode")); m != "" {
		mode = m
	}
	switch mode {
	case "serve":
		serve(true)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		serve(false)
	case "crash":
		fmt.Print("\x1b[31mred\x1b]0;title\a\r and dead\n")
		os.Exit(7)
	case "zombies":
		for range 5 {
			// The child forks once more and ends, so that the grandchild is orphaned.
			exec.Command(os.Args[0], "orphan").Run()
		}
		serve(true)
	case "orphan":
		exec.Command(os.Args[0], "exit").Start()
	case "exit":
	case "init":
		serve(true)
	}
}

func serve(stop bool) {
	if stop {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM, syscall.Signal(37))
		go func() {
			<-c
			os.Exit(0)
		}()
	}
	http.HandleFunc("/", about)
	http.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, r.URL.Query().Get("path"))
	})
	http.HandleFunc("/write", func(w http.ResponseWriter, r *http.Request) {
		os.MkdirAll(filepath.Dir(r.URL.Query().Get("path")), 0o755)
		if err := os.WriteFile(r.URL.Query().Get("path"), []byte(r.URL.Query().Get("data")), 0o644); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
		}
	})
	http.HandleFunc("/symlink", func(w http.ResponseWriter, r *http.Request) {
		os.RemoveAll(r.URL.Query().Get("path"))
		if err := os.Symlink(r.URL.Query().Get("target"), r.URL.Query().Get("path")); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
		}
	})
	http.HandleFunc("/nest", nest)
	http.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { os.Exit(9) })
	http.HandleFunc("/fail", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	fmt.Println("serving as pid", os.Getpid())
	if conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET")); err == nil {
		fmt.Fprint(conn, "READY=1")
		conn.Close()
	}
	fmt.Println(http.ListenAndServe(":8080", nil))
	os.Exit(1)
}

// nest makes directories in each other, deeper than any path is long.
func nest(w http.ResponseWriter, r *http.Request) {
	at, err := syscall.Open(r.URL.Query().Get("path"), syscall.O_DIRECTORY, 0)
	name := strings.Repeat("x", 250)
	for n := 0; n < 30 && err == nil; n++ {
		if err = syscall.Mkdirat(at, name, 0o755); err == nil {
			var next int
			next, err = syscall.Openat(at, name, syscall.O_DIRECTORY, 0)
			syscall.Close(at)
			at = next
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
	}
}

// About is what the guest tells.
type About struct {
	PID      int
	UID, GID int
	Groups   []int
	Hostname string
	Dir      string
	Args     []string
	Env      []string
	UIDMap   string
	Caps     string
	Mounts   string
	FDs      []string
	Zombies  int
	Resolv   string
	Passwd   string
}

func about(w http.ResponseWriter, _ *http.Request) {
	a := About{
		PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid(), Args: os.Args, Env: os.Environ(),
		UIDMap: read("/proc/self/uid_map"), Mounts: read("/proc/self/mountinfo"),
		Resolv: read("/etc/resolv.conf"), Passwd: read("/etc/passwd"),
	}
	a.Groups, _ = os.Getgroups()
	a.Hostname, _ = os.Hostname()
	a.Dir, _ = os.Getwd()
	for line := range strings.Lines(read("/proc/self/status")) {
		if v, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			a.Caps = strings.TrimSpace(v)
		}
	}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		t, _ := os.Readlink("/proc/self/fd/" + e.Name())
		a.FDs = append(a.FDs, t)
	}
	procs, _ := os.ReadDir("/proc")
	for _, p := range procs {
		if strings.Contains(read("/proc/"+p.Name()+"/stat"), ") Z ") {
			a.Zombies++
		}
	}
	json.NewEncoder(w).Encode(a)
}

func read(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}
