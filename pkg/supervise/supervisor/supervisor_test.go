package supervisor

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBoundedLog(t *testing.T) {
	tests := map[string]struct {
		limit        int64
		before       string // the log of an earlier run
		writes       []string
		older, newer string
	}{
		"fits":                     {20, "", []string{"a\n", "b\n"}, "", "a\nb\n"},
		"appends":                  {20, "old\n", []string{"new\n"}, "", "old\nnew\n"},
		"rotates between lines":    {20, "", []string{"12345\n", "67890\n"}, "12345\n", "67890\n"},
		"keeps two halves":         {20, "", []string{"11111\n", "22222\n", "33333\n"}, "22222\n", "33333\n"},
		"splits a chunk at a line": {20, "", []string{"1234\n5678\n9\n"}, "1234\n5678\n", "9\n"},
		"cuts a line over a half":  {8, "", []string{"123456789\n"}, "5678", "9\n"},
		"earlier log over a half":  {8, "123456\n", []string{"a\n"}, "123456\n", "a\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if tt.before != "" {
				os.WriteFile("log", []byte(tt.before), 0o600)
			}
			l, err := openLog(tt.limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range tt.writes {
				if n, err := l.Write([]byte(w)); n != len(w) || err != nil {
					t.Errorf("Write(%q) = %d, %v", w, n, err)
				}
			}
			older, _ := os.ReadFile("log.1")
			newer, _ := os.ReadFile("log")
			want, got := []string{tt.older, tt.newer}, []string{string(older), string(newer)}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("log.1 and log (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseNote(t *testing.T) {
	for text, want := range map[string]note{
		"READY=1":                           {sender: 7, ready: true},
		"READY=0\n":                         {sender: 7},
		"STATUS=READY=1":                    {sender: 7},
		"READY=1\nSTATUS=x":                 {sender: 7, ready: true},
		"STATUS=\nX_NSPAWN_LEADER_PID=42\n": {sender: 7, leader: 42},
		"X_NSPAWN_LEADER_PID=no":            {sender: 7},
		strings.Repeat("\n", 9):             {sender: 7},
	} {
		if diff := cmp.Diff(want, parseNote(7, text), cmp.AllowUnexported(note{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}
