package server_test

import (
	"bufio"
	"context"
	"io"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
	"tekton.host/pkg/server"
	"tekton.host/pkg/server/servertest"
)

// TestJournal: of a machine that boots the log is what its own journalctl says,
// and the console's where that says nothing, fails or hangs.
func TestJournal(t *testing.T) {
	defer server.SetJournalPause(200 * time.Millisecond)()
	leader := machine(t)
	since := time.Unix(1700000000, 0)
	tests := map[string]struct {
		inside string // a script in the place of journalctl
		boots  bool
		o      v1alpha1.LogOptions
		want   string
	}{
		"all":            {`echo "$@"`, true, v1alpha1.LogOptions{Tail: -1}, "journalctl --quiet --no-pager --no-hostname --lines=all\n"},
		"some":           {`echo "$@"`, true, v1alpha1.LogOptions{Tail: 3, Since: since}, "journalctl --quiet --no-pager --no-hostname --lines=3 --since=@1700000000\n"},
		"no journalctl":  {"echo not found >&2; exit 127", true, v1alpha1.LogOptions{Tail: -1}, "console\n"},
		"nothing":        {"exit 0", true, v1alpha1.LogOptions{Tail: -1}, "console\n"},
		"hangs":          {"sleep 1000", true, v1alpha1.LogOptions{Tail: -1}, "console\n"},
		"hangs half way": {"echo half; sleep 1000", true, v1alpha1.LogOptions{Tail: -1}, "half\n"},
		"fails half way": {"echo half; exit 1", true, v1alpha1.LogOptions{Tail: -1}, "half\n"},
		"console":        {`echo "$@"`, true, v1alpha1.LogOptions{Tail: -1, Console: true}, "console\n"},
		"previous":       {`echo "$@"`, true, v1alpha1.LogOptions{Tail: -1, Previous: true}, "before\n"},
		"boots nothing":  {`echo "$@"`, false, v1alpha1.LogOptions{Tail: -1}, "console\n"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			leader.Boots, leader.Launcher = tc.boots, []string{"sh", "-c", tc.inside, "launcher"}
			b := servertest.New(servertest.State{
				Items: []v1alpha1.Item{item("web")}, Leaders: map[v1alpha1.Ref]server.Leader{web: leader},
				Logs: map[string]string{web.String(): "console\n"}, Previous: map[string]string{web.String(): "before\n"},
			})
			socket, _ := serve(t, b)
			log, err := client.New(socket).Logs(t.Context(), web, tc.o)
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			if got, err := io.ReadAll(log); err != nil || string(got) != tc.want {
				t.Errorf("%q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

// TestJournalFollowed: it goes on for longer than a pause, and who goes leaves
// no process behind.
func TestJournalFollowed(t *testing.T) {
	defer server.SetJournalPause(50 * time.Millisecond)()
	leader := machine(t)
	leader.Boots, leader.Launcher = true, []string{"sh", "-c", `echo "$@"; sleep 0.5; echo later; sleep 1000`, "launcher"}
	socket, stop := serve(t, servertest.New(servertest.State{Items: []v1alpha1.Item{item("web")}, Leaders: map[v1alpha1.Ref]server.Leader{web: leader}}))
	ctx, cancel := context.WithCancel(t.Context())
	log, err := client.New(socket).Logs(ctx, web, v1alpha1.LogOptions{Tail: -1, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(log)
	for _, want := range []string{"journalctl --quiet --no-pager --no-hostname --lines=all --follow\n", "later\n"} {
		if got, err := lines.ReadString('\n'); err != nil || got != want {
			t.Fatalf("%q, %v; want %q", got, err, want)
		}
	}
	cancel()
	log.Close()
	stop() // waits until what was begun in machines is gone
}
