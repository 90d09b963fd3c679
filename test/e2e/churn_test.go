package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/test/systemdhost"
)

// seedEnv replays a history of churn.
const seedEnv = "TEKTON_TEST_SEED"

func seed(t testing.TB) uint64 {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv(seedEnv); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("replay with %s=%d", seedEnv, n)
	return n
}

// app is an object of the churn at one moment.
type app struct {
	name, file, host string
	generation, kind int // of kind depends what it has beside a route
}

func (a app) spec(k *tekton) string {
	lines := []string{"routes: [{host: " + a.host + ", port: 8080}]", "stopTimeout: 1s", fmt.Sprintf(`environment: {GENERATION: "%d"}`, a.generation)}
	if a.kind%3 == 0 {
		lines = append(lines, "databases: [{name: main, deletionPolicy: Delete}]")
	}
	if a.kind%4 == 0 {
		lines = append(lines, "volumes: [{name: data, path: /data, deletionPolicy: Delete}]")
	}
	return k.guestOf(runtimeOf(a.kind), a.name, lines...)
}

// churn is a history: rounds of changes, and what is to be there after each.
type churn struct {
	rounds []round
}

type round struct {
	changes []func(k *tekton)
	apps    []app // afterwards
	gone    []string
}

const churnObjects = 30

// newChurn makes objects come, and then change, move to other files, get other
// names, go, and come again. The last round takes them all away.
func newChurn(random *rand.Rand) *churn {
	c := &churn{}
	var apps, dropped []app
	first := round{}
	for i := range churnObjects {
		name := fmt.Sprintf("app%d", i)
		a := app{name: name, file: name + ".yaml", host: name + ".test", generation: 1, kind: i}
		apps = append(apps, a)
		first.put(a)
	}
	first.apps = apps
	c.rounds = append(c.rounds, first)
	for n := 2; n <= 3; n++ {
		r := round{}
		for _, a := range dropped { // and come again
			a.generation = n
			r.put(a)
			r.apps = append(r.apps, a)
		}
		dropped = nil
		for _, a := range apps {
			if b, stays := r.change(random, a, n); stays {
				r.apps = append(r.apps, b)
			} else {
				dropped = append(dropped, a)
			}
		}
		random.Shuffle(len(r.changes), func(i, j int) { r.changes[i], r.changes[j] = r.changes[j], r.changes[i] })
		apps = r.apps
		c.rounds = append(c.rounds, r)
	}
	last := round{}
	for _, a := range apps {
		last.drop(a)
	}
	c.rounds = append(c.rounds, last)
	return c
}

func (r *round) put(a app) {
	r.changes = append(r.changes, func(k *tekton) { k.write(a.file, a.spec(k)) })
}

// drop takes a document out of a file that stays: a clear request, without a brake.
func (r *round) drop(a app) {
	r.changes = append(r.changes, func(k *tekton) { k.write(a.file, "# nothing\n") })
	r.gone = append(r.gone, a.name)
}

// change does one of six things to an object and tells what becomes of it.
func (r *round) change(random *rand.Rand, a app, generation int) (app, bool) {
	switch random.IntN(6) {
	case 0: // stays as it is
	case 1: // another machine, beside the old one or after it
		a.generation = generation
		r.put(a)
	case 2: // hot
		a.host = fmt.Sprintf("%s-%d.test", a.name, generation)
		r.put(a)
	case 3: // the same object in another file
		from := a.file
		a.file = fmt.Sprintf("moved%d-%s", generation, a.file)
		r.changes = append(r.changes, func(k *tekton) { k.check(os.Rename(k.specs(from), k.specs(a.file))) })
	case 4: // another name in the same file, with the same route: one goes, one comes
		r.gone = append(r.gone, a.name)
		a.name = fmt.Sprintf("%s-n%d", a.name, generation)
		r.put(a)
	case 5:
		r.drop(a)
		return a, false
	}
	return a, true
}

// play applies the history. kill is called between the changes.
func (c *churn) play(k *tekton, kill func()) {
	k.t.Helper()
	for _, r := range c.rounds[:len(c.rounds)-1] {
		k.playRound(r, kill)
	}
}

func (k *tekton) playRound(r round, kill func()) {
	k.t.Helper()
	for _, change := range r.changes {
		change(k)
		kill()
	}
	k.immortal()
	for _, a := range r.apps {
		k.generation(a.name, strconv.Itoa(a.generation))
		k.eventually(a.host+" is served by "+a.name, func() error {
			got, err := k.served(a.host, "/")
			if err == nil && got.Hostname != a.name {
				err = fmt.Errorf("%s serves", got.Hostname)
			}
			return err
		})
		if a.kind%3 == 0 {
			k.eventually(a.name+" has its database", func() error { _, err := k.ask(a.name, "/sql", "q", "SELECT 1"); return err })
		}
	}
	k.gone(r.gone...)
	k.settled()
}

// immortal replaces a daemon that has died or is going to.
func (k *tekton) immortal() {
	k.t.Helper()
	if k.running() && len(k.daemon.Env) > 1 {
		select {
		case err := <-k.ended:
			k.ended <- err
		case <-time.After(time.Second): // its failpoint may never be reached
			k.signal(syscall.SIGKILL)
		}
	}
	if !k.running() {
		k.launch()
	}
}

// killer kills the daemon after some of the changes, now and then, and at
// failpoints, and counts; another one follows.
func (k *tekton) killer(random *rand.Rand, kills *int) func() {
	points := slices.Concat(failpoints[:]...)
	return func() {
		if random.IntN(4) > 0 {
			return
		}
		*kills++
		select { // the moment is what is tested
		case <-time.After(time.Duration(random.IntN(250)) * time.Millisecond):
			k.signal(syscall.SIGKILL)
		case err := <-k.ended: // at its failpoint
			k.ended <- err
		}
		if random.IntN(2) == 0 {
			k.launch()
		} else {
			k.launch(fmt.Sprintf("TEKTON_FAILPOINT=%s:%d", strings.TrimSuffix(points[random.IntN(len(points))], ":5"), 1+random.IntN(4)))
		}
	}
}

// TestRandomKills plays one history twice, in peace and with a daemon that is
// killed again and again, beside things of others that look like ours. The host
// is the same afterwards, while the objects run and when they have gone.
func TestRandomKills(t *testing.T) {
	if systemdhost.Inside() {
		installContainers(t)
	}
	k := start(t, "slotCooldown: 1s") // alone: all that is on the host is in the snapshots
	n := seed(t)
	history := newChurn(rand.New(rand.NewPCG(n, 0)))
	last := history.rounds[len(history.rounds)-1]
	run := func(kill func()) (full, empty snapshot) {
		k.write("first.yaml", k.guest("first", "databases: [{name: main, deletionPolicy: Delete}]", "routes: [{host: first.test, port: 8080}]"))
		k.ready("first")
		theirs := k.plant()
		defer theirs.uproot()
		host, databases := theirs.host(), theirs.databases()
		history.play(k, kill)
		full = k.stable()
		k.playRound(last, kill)
		if diff := cmp.Diff(databases, theirs.databases()); diff != "" {
			t.Errorf("databases of others: -before +after:\n%s", diff)
		}
		k.must("delete", "first")
		k.gone("first")
		empty = k.stable()
		if diff := cmp.Diff(host, theirs.host()); diff != "" {
			t.Errorf("things of others: -before +after:\n%s", diff)
		}
		return full, empty
	}
	quietFull, quietEmpty := run(func() {})
	k.signal(syscall.SIGTERM)
	k.check(os.RemoveAll(k.state()))
	k.check(os.MkdirAll(k.specs(), 0o755))
	k.up()
	kills := 0
	killedFull, killedEmpty := run(k.killer(rand.New(rand.NewPCG(n, 1)), &kills))
	if t.Logf("the daemon was killed %d times", kills); kills == 0 {
		t.Error("the daemon was never killed")
	}
	if diff := quietFull.diff(killedFull); diff != "" {
		t.Errorf("with all objects: -undisturbed +killed:\n%s", diff)
	}
	if diff := quietEmpty.diff(killedEmpty); diff != "" {
		t.Errorf("after all objects: -undisturbed +killed:\n%s", diff)
	}
}
