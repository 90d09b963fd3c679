package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var ingress = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), ingressPort)

// routes changes nothing but a host name of an object with 1 and with 50.
func (b *bench) routes() error {
	ctx := context.Background()
	for _, n := range []int{1, 50} {
		o := object{name: "routed" + strconv.Itoa(n)}
		for i := range n {
			o.routes = append(o.routes, fmt.Sprintf("r%d-0.example.org", i))
		}
		if _, err := b.daemon.drop(b.rootfs, o); err != nil {
			return err
		}
		if err := b.daemon.awaitReady(ctx, o); err != nil {
			return err
		}
		leader := b.daemon.leader(o.name + "-1")
		var served sample
		var stages []stage
		for i := range max(5, b.s.runs) {
			time.Sleep(300 * time.Millisecond)
			o.routes = append(slices.Clone(o.routes[:n-1]), fmt.Sprintf("changed-%d.example.org", i))
			began, err := b.daemon.drop(b.rootfs, o)
			if err != nil {
				return err
			}
			ready, err := awaitAnswer(ingress, o.routes[n-1])
			if err != nil {
				return err
			}
			served = append(served, ready.Sub(began))
			if served[i] == slices.Min(served) {
				stages = b.daemon.stages(began, ready)
			}
		}
		if now := b.daemon.leader(o.name + "-1"); now != leader || leader == 0 {
			return fmt.Errorf("the machine was restarted by a change of its route (first process %d, then %d)", leader, now)
		}
		line(fmt.Sprintf("one route of %d changed → served", n), served.String(), served.median() < 50*time.Millisecond, "< 50 ms",
			"see the steps below")
		note("no restart; last step of each kind, ms (fastest run): %s", timeline(stages))
		if err := b.daemon.remove(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// whole measures an object with a route and a database, once the cluster is there.
func (b *bench) whole() error {
	ctx := context.Background()
	cluster := object{name: "cluster", database: true}
	if _, err := b.daemon.drop(b.rootfs, cluster); err != nil {
		return err
	}
	if err := b.daemon.awaitReady(ctx, cluster); err != nil {
		return err
	}
	var served sample
	var stages []stage
	for i := range max(3, b.s.runs) {
		time.Sleep(500 * time.Millisecond)
		o := object{name: "whole" + strconv.Itoa(i), routes: []string{fmt.Sprintf("whole%d.example.org", i)}, database: true}
		began, err := b.daemon.drop(b.rootfs, o)
		if err != nil {
			return err
		}
		ready, err := awaitAnswer(ingress, o.routes[0])
		if err != nil {
			return err
		}
		served = append(served, ready.Sub(began))
		if served[i] == slices.Min(served) {
			stages = b.daemon.stages(began, ready)
		}
		if err := b.daemon.remove(ctx, o); err != nil {
			return err
		}
	}
	line("machine, database and route → served", served.String(), true, "", "")
	note("last step of each kind, ms (fastest run): %s", timeline(stages))
	return b.daemon.remove(ctx, cluster)
}

// idle measures what many converged objects cost.
func (b *bench) idle() error {
	ctx, pid := context.Background(), b.daemon.pid()
	empty := rssMiB(pid)
	objects := b.objects(b.s.big, b.httpd())
	old := slotsOf(b.naming.LinkPrefix())
	began, err := b.daemon.drop(b.rootfs, objects...)
	if err != nil {
		return err
	}
	ready, err := awaitMachines(b.naming.LinkPrefix(), old, len(objects), b.naming.Addr, b.httpd())
	if err != nil {
		return err
	}
	note("%d files dropped → all answer: %s", len(objects), ms(ready.Sub(began)))
	if err := b.daemon.awaitReady(ctx, objects...); err != nil {
		return err
	}
	time.Sleep(5 * time.Second)
	if err := b.passes(pid, len(objects)+1); err != nil {
		return err
	}
	time.Sleep(15 * time.Second) // the runtime gives back what the burst took
	started, woken, used, exact := lastPID(), switches(pid), ticks(pid), cpu(pid)
	time.Sleep(b.s.idle)
	used, exact, woken, started = ticks(pid)-used, cpu(pid)-exact, switches(pid)-woken, lastPID()-started
	line(fmt.Sprintf("idle CPU ticks in %s, %d objects", b.s.idle, len(objects)+1), strconv.Itoa(used), used <= 1, "≤ 1", "see the CPU time below: the runtime's own housekeeping, or a full look (every five minutes)")
	note("%s of CPU, %d switches; processes and threads started by anybody: %d", ms(exact), woken, started)
	rss := rssMiB(pid)
	line(fmt.Sprintf("RSS of tektond, %d objects", len(objects)+1), fmt.Sprintf("%.1f MiB", rss), rss < 40, "< 40 MiB", "the heap left by the burst, which the runtime returns slowly")
	note("with one object: %.1f MiB", empty)
	memoryOfMachines(pid)
	return b.daemon.remove(ctx, objects...)
}

// passes asks for full looks at a converged host.
func (b *bench) passes(pid, objects int) error {
	var spent sample
	started := lastPID()
	for range 10 {
		before := cpu(pid)
		if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
			return err
		}
		time.Sleep(500 * time.Millisecond)
		spent = append(spent, cpu(pid)-before)
	}
	line(fmt.Sprintf("full look at %d objects and pass, CPU", objects), spent.String(), true, "", "")
	note("all drivers, all sources, real host; processes and threads started meanwhile by anybody: %d", lastPID()-started)
	return nil
}

// memoryOfMachines prints what one machine's processes take, by program.
func memoryOfMachines(tektond int) {
	sum, count := map[string]int{}, map[string]int{}
	machines := 0
	var walk func(pid int)
	walk = func(pid int) {
		name := statFields("/proc/" + strconv.Itoa(pid))
		if len(name) < 2 {
			return
		}
		sum[name[1]] += field(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
		count[name[1]]++
		for _, c := range children(pid) {
			walk(c)
		}
	}
	for _, supervisor := range children(tektond) {
		if below := children(supervisor); len(below) == 1 && statFields("/proc/" + strconv.Itoa(below[0]))[1] == "systemd-nspawn" {
			machines++
			walk(supervisor)
		}
	}
	if machines == 0 {
		return
	}
	var parts []string
	total := 0
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for k := range sum {
			if !yield(k) {
				return
			}
		}
	}) {
		total += sum[name]
		parts = append(parts, fmt.Sprintf("%s %.2f", name, float64(sum[name])/1024/float64(machines)))
	}
	line("memory of a machine (PSS)", fmt.Sprintf("%.2f MiB: %s", float64(total)/1024/float64(machines), strings.Join(parts, ", ")), true, "", "")
}
