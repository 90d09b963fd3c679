package main

import (
	"strings"
	"testing"
)

func TestGeneratedFilesAreUpToDate(t *testing.T) {
	stale, err := run("../..", true)
	if err != nil {
		t.Fatal(err)
	}
	if len(stale) > 0 {
		t.Errorf("not up to date: %s; run: go run ./hack/gen", strings.Join(stale, ", "))
	}
}

func TestPageNeedsItsMarks(t *testing.T) {
	if _, err := withTables([]byte("# Page\n"), "x"); err == nil {
		t.Error("a page without marks was accepted")
	}
	got, err := withTables([]byte("a\n"+begin+"old\n"+end+"b\n"), "new\n")
	if want := "a\n" + begin + "new\n" + end + "b\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}
