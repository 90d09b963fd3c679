// Command guest is the one program in the machines of the end-to-end tests. Its
// first argument chooses what it does:
//
//	serve     HTTP on :8080 and :8081 until SIGTERM, finishing what is under way
//	stubborn  the same, ignoring SIGTERM
//	crash     a line on standard output, then exit 7
//	done      a line on standard output, then exit 0
//	inside    a report on the machine, seen by its root, then exit 0
//	raw       sends the frames that it reads on an interface of its own
//
// READY=no has /ready answer 503 until /open was asked for.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

func main() {
	if runSystem() {
		return
	}
	switch os.Args[1] {
	case "crash":
		fmt.Println("cannot find my keys")
		os.Exit(7)
	case "done":
		fmt.Println("all done")
		os.Exit(0)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		serve(context.Background())
	case "serve":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		serve(ctx)
	case "inside":
		must(inside())
	case "raw":
		must(rawLoop())
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var open atomic.Bool

func serve(ctx context.Context) {
	open.Store(os.Getenv("READY") != "no")
	for pattern, f := range map[string]func(*http.Request) (string, error){
		"/":           about,
		"/index.html": func(*http.Request) (string, error) { return generation(), nil },
		"/read": func(r *http.Request) (string, error) {
			b, err := os.ReadFile(r.FormValue("path"))
			return string(b), err
		},
		"/stat": stat,
		"/list": func(r *http.Request) (string, error) {
			entries, err := os.ReadDir(r.FormValue("path"))
			return fmt.Sprint(len(entries)), err
		},
		"/replace": func(r *http.Request) (string, error) {
			path := r.FormValue("path")
			if err := os.Rename(path, path+".moved"); err != nil {
				return "", err
			}
			return "", os.Symlink(r.FormValue("target"), path)
		},
		"/umount": func(r *http.Request) (string, error) { return "", syscall.Unmount(r.FormValue("path"), 0) },
		"/link": func(r *http.Request) (string, error) {
			return "", os.Symlink(r.FormValue("target"), r.FormValue("path"))
		},
		"/append": appendFile,
		"/dial":   dial,
		"/lookup": lookup,
		"/sql":    sql,
		"/open":   func(*http.Request) (string, error) { open.Store(true); return "", nil },
		"/end":    func(*http.Request) (string, error) { endSlow(); return "", nil },
		"/exit":   exit,
		"/inside": insideHandler,
		"/raw":    rawSend,
		"/heard":  rawHeard,
		"/notify": notify,
	} {
		http.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			out, err := f(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			io.WriteString(w, out)
		})
	}
	http.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !open.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("/slow", slow)
	server := &http.Server{}
	for _, addr := range []string{":8080", ":8081"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		go server.Serve(l)
	}
	fmt.Println("serving generation", os.Getenv("GENERATION"))
	<-ctx.Done()
	server.Shutdown(context.Background())
}

// generation is that of the system or, where it has none, of the environment.
func generation() string {
	if b, err := os.ReadFile(generationFile); err == nil {
		return string(b)
	}
	return os.Getenv("GENERATION")
}

// about tells who answers.
func about(r *http.Request) (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]any{
		"Hostname": name, "Generation": generation(), "PID": os.Getpid(), "Path": r.URL.Path, "Env": os.Environ(),
	})
	return string(b), err
}

// stat tells mode, owner and file system of a file.
func stat(r *http.Request) (string, error) {
	path := r.FormValue("path")
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil {
		return "", err
	}
	return fmt.Sprintf("%04o uid=%d fs=%x", info.Mode().Perm(), info.Sys().(*syscall.Stat_t).Uid, fs.Type), nil
}

func appendFile(r *http.Request) (string, error) {
	path := r.FormValue("path")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(r.FormValue("data"))
	// What is answered outlives a power cut.
	return "", errors.Join(err, f.Sync(), f.Close())
}

// dial tells how a connection goes: open, refused, timeout.
func dial(r *http.Request) (string, error) {
	conn, err := net.DialTimeout(cmp.Or(r.FormValue("network"), "tcp"), r.FormValue("addr"), 500*time.Millisecond)
	var timeout net.Error
	switch {
	case err == nil:
		return "open", conn.Close()
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused", nil
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout", nil
	}
	return err.Error(), nil
}

func lookup(r *http.Request) (string, error) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	resolver := &net.Resolver{PreferGo: true}
	addrs, err := resolver.LookupHost(ctx, r.FormValue("name"))
	if err != nil {
		return err.Error(), nil
	}
	return strings.Join(addrs, " "), nil
}

// sql runs a query on the database of a URL, by default DATABASE_URL, and
// returns its first value.
func sql(r *http.Request) (string, error) {
	url := r.FormValue("url")
	if url == "" {
		url = os.Getenv("DATABASE_URL")
	}
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, r.FormValue("q"))
	if err != nil {
		return "", err
	}
	defer rows.Close()
	out := ""
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return "", err
		}
		out = fmt.Sprint(values[0])
	}
	return out, rows.Err()
}

var (
	slowEnded = make(chan struct{})
	endSlow   = sync.OnceFunc(func() { close(slowEnded) })
)

// slow answers a piece at a time, until /end is asked for or its number of pieces is out.
func slow(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.FormValue("n"))
	for i := range n {
		fmt.Fprintln(w, i)
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-slowEnded:
			fmt.Fprintln(w, "end")
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
	fmt.Fprintln(w, "end")
}

func exit(r *http.Request) (string, error) {
	code, err := strconv.Atoi(r.FormValue("code"))
	if err != nil {
		return "", err
	}
	fmt.Println("asked to exit with", code)
	go func() {
		time.Sleep(10 * time.Millisecond) // the answer goes out first
		os.Exit(code)
	}()
	return "", nil
}
