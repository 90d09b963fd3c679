package server

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"tekton.host/pkg/server/wire"
)

// TestFullDiskIsExplained: what fails for want of space says so, and what to do.
func TestFullDiskIsExplained(t *testing.T) {
	w := httptest.NewRecorder()
	(&Server{}).fail(w, fmt.Errorf("write the secret: %w", &fs.PathError{Op: "write", Path: "/secrets/token", Err: syscall.ENOSPC}))
	var got wire.Error
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if w.Code != http.StatusServiceUnavailable || got.Code != wire.Unavailable || !strings.Contains(got.Message, "/secrets/token") || !strings.Contains(got.Next, "free space") {
		t.Errorf("%d %+v", w.Code, got)
	}
}
