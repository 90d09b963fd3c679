package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"tekton.host/pkg/resource"
)

const (
	scriptNet    = "10.78"
	scriptTable  = "tekton_tbs"
	scriptPrefix = "tkbs"
	resident     = "resident"
)

// bench holds both sides: a warm daemon with one resident object, and the
// script with its table.
type bench struct {
	s      settings
	rootfs string
	naming resource.Naming // tekton's
	script resource.Naming // the script's: another subnet
	daemon *daemon
	group  string // interface group of the script's links
	slot   int    // next of the script
	serial int    // of objects' names
}

func newBench(s settings) (b *bench, err error) {
	b = &bench{
		s: s, rootfs: filepath.Join(s.dir, "rootfs"), slot: 1,
		naming: resource.Naming{Instance: "tbn", Subnet: netip.MustParsePrefix("10.77.0.0/16")},
		script: resource.Naming{Instance: "tbs", Subnet: netip.MustParsePrefix(scriptNet + ".0.0/16")},
	}
	if err := makeRootfs(b.rootfs); err != nil {
		return nil, err
	}
	if b.daemon, err = startDaemon(s, b.naming); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	warm := object{name: resident, routes: []string{"resident.example.org"}}
	if _, err = b.daemon.drop(b.rootfs, warm); err != nil {
		return nil, err
	}
	if err = b.daemon.awaitReady(context.Background(), warm); err != nil {
		return nil, fmt.Errorf("the resident object: %w:\n%s", err, b.daemon.logTail())
	}
	return b, b.prepareScript()
}

// close ends what runs; hack/bench.sh removes namespaces, cgroups and files.
func (b *bench) close() { b.daemon.stop() }

// makeRootfs makes a small system: a static busybox and a page.
func makeRootfs(dir string) error {
	for _, d := range []string{"usr/bin", "usr/lib", "etc", "proc", "sys", "dev", "run", "tmp", "var", "root", "www"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w: install busybox-static (hack/deps.sh)", err)
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		return err
	}
	for name, content := range map[string]string{
		"usr/bin/busybox": string(data), "www/index.html": "hello\n", "usr/lib/os-release": "ID=bench\n",
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n",
	} {
		mode := os.FileMode(0o644)
		if filepath.Dir(name) == "usr/bin" {
			mode = 0o755
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			return err
		}
	}
	for _, l := range []string{"bin", "lib"} {
		if err := os.Symlink("usr/"+l, filepath.Join(dir, l)); err != nil {
			return err
		}
	}
	return nil
}

// prepareScript gives the script what a host has once: tekton's very table
// under another name, for another subnet and interface group, and the two rules
// of policy routing.
func (b *bench) prepareScript() error {
	rules, err := exec.Command("nft", "list", "table", "inet", b.naming.Table()).Output()
	if err != nil {
		return fmt.Errorf("read tekton's table: %w", err)
	}
	ours := b.naming.RoutingTable()
	b.group = strconv.Itoa(b.script.RoutingTable())
	text := strings.NewReplacer(
		"table inet "+b.naming.Table(), "table inet "+scriptTable, "10.77.", scriptNet+".",
		strconv.Itoa(ours), b.group, fmt.Sprintf("%#x", ours), fmt.Sprintf("%#x", b.script.RoutingTable()),
		"tktbn", "tkold",
	).Replace(string(rules))
	load := exec.Command("nft", "-f", "-")
	load.Stdin = strings.NewReader(text)
	if out, err := load.CombinedOutput(); err != nil {
		return fmt.Errorf("load the script's table: %w: %s", err, out)
	}
	subnet, table, priority := b.script.Subnet.String(), b.group, b.script.RulePriority()
	for _, args := range [][]string{
		{"route", "add", "throw", "default", "table", table},
		{"route", "add", "blackhole", "10.0.0.0/8", "table", table},
		{"rule", "add", "from", subnet, "iif", "lo", "lookup", "main", "priority", strconv.Itoa(priority)},
		{"rule", "add", "from", subnet, "lookup", table, "priority", strconv.Itoa(priority + 1)},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// runScript starts script.sh; its output goes to a file, for machines inherit it.
func (b *bench) runScript(action string, p payload, first, last int) error {
	out, err := os.Create(filepath.Join(b.s.dir, "script.log"))
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(filepath.Join(b.s.bin, "script.sh"), action, strconv.Itoa(first), strconv.Itoa(last))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), "BENCH="+b.s.dir, "ROOTFS="+p.rootfs, "PAYLOAD="+p.name, "NET="+scriptNet, "TABLE="+scriptTable, "GROUP="+b.group,
		"HELPER="+filepath.Join(b.s.bin, "bench"), "REPOSITORY="+p.repository, "COMMIT="+p.commit)
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		return fmt.Errorf("script.sh %s: %w: %s", action, err, text)
	}
	return nil
}

// turn is one measurement of one side.
type turn struct {
	wall time.Duration
	cpu  time.Duration // of all processes
	own  time.Duration // of tektond
}

// byScript starts n machines with the script, and ends them.
func (b *bench) byScript(n int, p payload) (turn, error) {
	first, last := b.slot, b.slot+n-1
	b.slot += n
	old, spent := slotsOf(scriptPrefix), cpuAll()
	began := time.Now()
	failed := make(chan error, 1)
	go func() { failed <- b.runScript("up", p, first, last) }()
	ready, err := awaitMachines(scriptPrefix, old, n, b.script.Addr, p)
	t := turn{wall: ready.Sub(began), cpu: cpuAll() - spent}
	if upErr := <-failed; upErr != nil {
		return t, upErr
	}
	if err != nil {
		text, _ := os.ReadFile(filepath.Join(b.s.dir, "script.log"))
		return t, fmt.Errorf("%w; the script says: %s", err, text)
	}
	return t, b.runScript("down", p, first, last)
}

// names makes n objects that were never there before.
func (b *bench) objects(n int, p payload) []object {
	objects := make([]object, n)
	for i := range objects {
		b.serial++
		objects[i] = object{name: "m" + strconv.Itoa(b.serial), agent: p.agent, repository: p.repository, commit: p.commit}
	}
	return objects
}

// byTekton drops n files, and removes the objects.
func (b *bench) byTekton(n int, p payload) (turn, []stage, error) {
	objects := b.objects(n, p)
	old, spent, own := slotsOf(b.naming.LinkPrefix()), cpuAll(), cpu(b.daemon.pid())
	began, err := b.daemon.drop(b.rootfs, objects...)
	if err != nil {
		return turn{}, nil, err
	}
	ready, err := awaitMachines(b.naming.LinkPrefix(), old, n, b.naming.Addr, p)
	t := turn{ready.Sub(began), cpuAll() - spent, cpu(b.daemon.pid()) - own}
	if err != nil {
		return t, nil, err
	}
	stages := b.daemon.stages(began, ready)
	if err := b.daemon.awaitReady(context.Background(), objects...); err != nil {
		return t, nil, err
	}
	return t, stages, b.daemon.remove(context.Background(), objects...)
}

// compare runs both sides alternately.
func (b *bench) compare(n int, p payload, aim float64) error {
	runs := b.s.runs
	if n > 1 {
		runs = max(2, (runs+1)/2)
	}
	var wall, cpu [2]sample // tekton, script
	var own sample
	var stages []stage
	for i := range runs {
		for side := range 2 {
			var t turn
			var err error
			if (i+side)%2 == 0 {
				t, err = b.byScript(n, p)
				wall[1], cpu[1] = append(wall[1], t.wall), append(cpu[1], t.cpu)
			} else {
				var s []stage
				t, s, err = b.byTekton(n, p)
				if len(wall[0]) == 0 || t.wall < slices.Min(wall[0]) {
					stages = s
				}
				wall[0], cpu[0], own = append(wall[0], t.wall), append(cpu[0], t.cpu), append(own, t.own)
			}
			if err != nil {
				return err
			}
			time.Sleep(300 * time.Millisecond)
		}
	}
	ratio := float64(wall[0].median()) / float64(wall[1].median())
	line(fmt.Sprintf("file dropped → %s, N=%d", p.answer, n), fmt.Sprintf("tekton %s, script %s: %.2f ×", wall[0], wall[1], ratio),
		ratio <= aim, fmt.Sprintf("≤ %.2f ×", aim), "see where the time goes below")
	note("minima %.2f ×; CPU a machine, all processes: tekton %s (tektond itself %s), script %s", float64(slices.Min(wall[0]))/float64(slices.Min(wall[1])),
		ms(cpu[0].median()/time.Duration(n)), ms(own.median()/time.Duration(n)), ms(cpu[1].median()/time.Duration(n)))
	note("last step of each kind, ms after the drop (fastest run): %s", timeline(stages))
	return nil
}

// stage is when the last step of a kind was done.
type stage struct {
	kind string
	last time.Duration
}

var doneLine = regexp.MustCompile(`^(\S+)\tINFO\tengine\tdone\t.*"resource": "([a-z]+)/`)

// stages reads from the daemon's log when the steps between two moments were done.
func (d *daemon) stages(from, to time.Time) []stage {
	data, _ := os.ReadFile(d.log)
	last := map[string]time.Duration{}
	for l := range strings.Lines(string(data)) {
		m := doneLine.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		at, err := time.Parse("2006-01-02T15:04:05.000Z0700", m[1])
		if err != nil || at.Before(from.Truncate(time.Millisecond)) || at.After(to) {
			continue
		}
		last[m[2]] = at.Sub(from)
	}
	var out []stage
	for k, at := range last {
		out = append(out, stage{k, at})
	}
	slices.SortFunc(out, func(a, b stage) int { return int(a.last - b.last) })
	return out
}

func timeline(stages []stage) string {
	words := make([]string, len(stages))
	for i, s := range stages {
		words[i] = fmt.Sprintf("%s %d", s.kind, s.last.Milliseconds())
	}
	return strings.Join(words, ", ")
}
