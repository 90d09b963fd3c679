package supervisor

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/supervise/contract"
)

// stampsNow are those in the file of times of the log.
func stampsNow(t *testing.T, log *boundedLog) []contract.Stamp {
	t.Helper()
	header, err := contract.TimesHeader(log.file)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(contract.TimesFile)
	if err != nil {
		t.Fatal(err)
	}
	stamps, ok := contract.ParseTimes(text, header)
	if !ok {
		t.Fatalf("not of the log: %q", text)
	}
	return stamps
}

func TestTimes(t *testing.T) {
	t.Chdir(t.TempDir())
	open := func() *boundedLog {
		l, err := openLog(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	for range 3 { // starts that say nothing leave nothing
		open()
	}
	l := open()
	l.Write([]byte("a\n"))
	l.times.stamp(l.file, time.Unix(5, 0))
	l.times.stamp(l.file, time.Unix(5, 0)) // one a second
	l.Write([]byte("b\n"))
	l = open()
	got := stampsNow(t, l)
	for i := range got {
		got[i].Second = 0
	}
	want := []contract.Stamp{{Start: true}, {Offset: 2}, {Offset: 2}, {Offset: 4, Start: true}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What a full disk or a power cut has torn is left out.
func TestTornTimes(t *testing.T) {
	got, ok := contract.ParseTimes([]byte("log 7\n1 0 start\n2 1\n3 1200000 4\n5 12 star\n6 x\n4 2\n9 99"), "log 7\n")
	want := []contract.Stamp{{Second: 1, Start: true}, {Second: 2, Offset: 1}, {Second: 4, Offset: 2}}
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("%t (-want +got):\n%s", ok, diff)
	}
}

// The times are bounded as the log is: with it they are rotated.
func TestTimesAreBounded(t *testing.T) {
	t.Chdir(t.TempDir())
	l, err := openLog(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	l.times.max = 100
	for i := range 1000 {
		l.times.stamp(l.file, time.Unix(int64(i), 0))
		l.Write([]byte("x\n"))
	}
	for _, name := range []string{contract.TimesFile, contract.TimesFile + ".1"} {
		text, err := os.ReadFile(name)
		if err != nil || len(text) > 200 || !strings.HasPrefix(string(text), "log ") {
			t.Errorf("%s: %v, %d bytes", name, err, len(text))
		}
	}
}
