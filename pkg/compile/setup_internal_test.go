package compile

import (
	"slices"
	"testing"

	"tekton.host/pkg/resource"
)

// TestLastWords: of a failed setup's log those lines are told that say why.
func TestLastWords(t *testing.T) {
	log := []string{
		"Starting app.service - Setup of the application...", "one", "two", "three", "no such table",
		"app.service: Main process exited, code=exited, status=3/NOTIMPLEMENTED", "app.service: Failed with result 'exit-code'.",
		"Failed to start app.service - Setup of the application.", "tekton: /srv/app is at 0123456: 6 files, 2 written, 0 removed",
	}
	if got := lastWords(log, resource.Setup{Unit: "app.service"}); !slices.Equal(got, []string{"two", "three", "no such table"}) {
		t.Errorf("%q", got)
	}
	if got := lastWords([]string{"tekton: done"}, resource.Setup{}); len(got) != 0 {
		t.Errorf("%q", got)
	}
}
