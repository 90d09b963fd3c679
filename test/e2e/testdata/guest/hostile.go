package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// SWAP=PATH>TARGET,… has the guest exchange each directory with a link to its
// target as long as it lives. /hold takes as many connections to the database as
// there are to be had, up to n, and tells how many that were; /drop ends them.
func init() {
	http.HandleFunc("/hold", hold)
	http.HandleFunc("/drop", func(http.ResponseWriter, *http.Request) { drop() })
	if plan := os.Getenv("SWAP"); plan != "" && len(os.Args) > 1 && os.Args[1] == "serve" {
		go swap(strings.Split(plan, ","))
	}
}

func swap(plan []string) {
	var paths []string
	for _, pair := range plan {
		path, target, _ := strings.Cut(pair, ">")
		for _, dir := range []string{filepath.Dir(path), target} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				fmt.Println(err)
			}
		}
		// What an earlier life left may be the one or the other.
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			os.Mkdir(path, 0o755)
		}
		if _, err := os.Lstat(path + ".swap"); errors.Is(err, fs.ErrNotExist) {
			if err := os.Symlink(target, path+".swap"); err != nil {
				fmt.Println(err)
			}
		}
		paths = append(paths, path)
	}
	fmt.Println("swapping", paths)
	for {
		for _, p := range paths {
			if err := unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, p+".swap", unix.RENAME_EXCHANGE); err != nil {
				fmt.Println("swap", p, err)
				time.Sleep(100 * time.Millisecond)
			}
		}
		time.Sleep(20 * time.Microsecond) // others have work to do, too
	}
}

var held struct {
	sync.Mutex
	conns []*pgx.Conn
}

func hold(w http.ResponseWriter, r *http.Request) {
	held.Lock()
	defer held.Unlock()
	n := 0
	fmt.Sscan(r.FormValue("n"), &n)
	for len(held.conns) < n {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		conn, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
		cancel()
		if err != nil {
			fmt.Println(err)
			break
		}
		held.conns = append(held.conns, conn)
	}
	fmt.Fprint(w, len(held.conns))
}

func drop() {
	held.Lock()
	defer held.Unlock()
	for _, c := range held.conns {
		c.Close(context.Background())
	}
	held.conns = nil
}
