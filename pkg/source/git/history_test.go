package git

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"testing"

	"tekton.host/pkg/source/git/gittest"
)

// seedEnv replays a history.
const seedEnv = "TEKTON_TEST_SEED"

// TestRandomRemotes lets a remote do anything in any order, with restarts in
// between, and compares with the rule: what is in effect is the last good commit
// that was seen on the branch.
func TestRandomRemotes(t *testing.T) {
	t.Parallel()
	seed, err := strconv.ParseUint(os.Getenv(seedEnv), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("%s=%d replays this", seedEnv, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	h := &history{remote: gittest.New(t), commits: map[string]pushed{}}
	srv := gittest.Serve(t, h.remote)
	o, _ := options(t, srv.Address())
	s := open(t, o)
	for i := range 60 {
		what := h.change(random, i)
		down := random.IntN(5) == 0
		srv.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
			if down {
				w.WriteHeader(http.StatusBadGateway)
			}
			return down
		})
		if random.IntN(4) == 0 {
			what += ", restart"
			s = open(t, o)
		}
		snap, err := look(t, s)
		if !down && h.branch != "" && h.commits[h.branch].good {
			h.effect = h.branch
		}
		if well := !down && h.branch != "" && h.commits[h.branch].good; well != (err == nil) {
			t.Fatalf("%d: %s, down %t: %v", i, what, down, err)
		}
		if h.effect == "" {
			if snap.Complete || len(snap.Objects) > 0 {
				t.Fatalf("%d: %s: nothing was good yet, and there is %+v", i, what, snap)
			}
			continue
		}
		wants(t, snap, h.commits[h.effect].names...)
		if st := s.Status(); st.Commit != h.effect {
			t.Fatalf("%d: %s: commit %s, expected %s", i, what, st.Commit, h.effect)
		}
	}
}

// history is what is at the remote, and what is to be in effect.
type history struct {
	remote  *gittest.Remote
	commits map[string]pushed
	order   []string
	branch  string // its commit; empty: there is no branch
	effect  string
}

// pushed is what a commit says.
type pushed struct {
	names []string
	good  bool
}

func (h *history) change(random *rand.Rand, i int) string {
	switch n := random.IntN(10); {
	case n < 6: // another commit, one in three is bad
		c := pushed{names: []string{"a", fmt.Sprint("n", i)}, good: random.IntN(3) > 0}
		lines := c.names
		if !c.good {
			lines = append(lines, "!bad")
		}
		h.branch = h.remote.Push(map[string]string{"a.yaml": doc(lines...)})
		h.commits[h.branch] = c
		h.order = append(h.order, h.branch)
		return fmt.Sprint("pushed, good ", c.good)
	case n < 8 && len(h.order) > 0: // back or forth
		h.branch = h.order[random.IntN(len(h.order))]
		h.remote.Git("reset", "--quiet", "--hard", h.branch)
		h.remote.Git("push", "--quiet", "--force", "origin", "HEAD:main")
		return "moved"
	case n == 8 && h.branch != "":
		h.remote.Git("push", "--quiet", "origin", ":main")
		h.branch = ""
		return "deleted"
	}
	return "nothing"
}
