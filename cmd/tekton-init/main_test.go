package main

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// moved says that the main goroutine was seen on another thread than the first.
var moved bool

func TestMain(m *testing.M) {
	for range 4 {
		go func() {
			for {
				time.Sleep(time.Microsecond)
			}
		}()
	}
	for range 200 {
		time.Sleep(time.Millisecond)
		moved = moved || syscall.Gettid() != os.Getpid()
	}
	os.Exit(m.Run())
}

// TestFirstThreadExecutes: what main does, and so the start of the machine's
// init, is done by the first thread.
func TestFirstThreadExecutes(t *testing.T) {
	if moved {
		t.Error("another thread does it")
	}
}
