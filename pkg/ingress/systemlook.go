package ingress

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tekton.host/pkg/resource"
)

// lookAtSystem asks the host's own Caddy. It is called with busy held.
func (d *Driver) lookAtSystem(ctx context.Context, s *sight) error {
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	running, err := d.admin.config(asking)
	if unreachable(err) {
		return nil
	}
	if err != nil {
		return err
	}
	s.up = true
	if s.current == nil {
		return nil
	}
	imported, err := d.opts.System.imports(d.importLine())
	s.wrong = s.found || !imported || s.current.Importer != d.opts.System.Caddyfile
	if err != nil || s.current.Importer == "" {
		s.wrong = true
		return nil
	}
	if s.serving, err = d.contains(asking, running, s.current); err != nil || !imported {
		return err
	}
	return d.lookAtFile(asking, running, s)
}

// lookAtFile finds out whether the operator's file can be loaded as it is. When
// it cannot because of a site of ours, or has a host of ours, ours has to go.
func (d *Driver) lookAtFile(ctx context.Context, running []byte, s *sight) error {
	file, err := stampOf(d.opts.System.Caddyfile)
	if err != nil {
		return err
	}
	now := reading{file, s.current.name, sha256.Sum256(running)}
	if d.read == now {
		return nil
	}
	whole, err := d.opts.System.whole()
	if err != nil {
		return err
	}
	ok, err := d.admin.accepts(ctx, whole)
	if err != nil {
		return err
	}
	taken, err := d.takenHosts(ctx, s.current.ports())
	if isRefusal(err) {
		s.wrong = true
		return nil
	}
	if err != nil {
		return err
	}
	clash := slices.ContainsFunc(s.current.sorted(), func(e entry) bool { return taken[e.Route.Host] })
	if !ok || clash {
		s.serving = false
		return nil
	}
	d.read = now
	return nil
}

// reading is what of the operator's file was found to be good beside which sites.
type reading struct {
	file       stamp
	generation string
	running    [sha256.Size]byte
}

// takenHosts are the host names that the operator's file has sites for on ports of ours.
func (d *Driver) takenHosts(ctx context.Context, ports []int) (map[string]bool, error) {
	bare, err := d.opts.System.with(d.importLine(), "")
	if err != nil {
		return nil, err
	}
	config, err := d.admin.adapt(ctx, bare)
	if err != nil {
		return nil, err
	}
	hosts := map[string]bool{}
	for _, s := range serversIn(config) {
		if !slices.ContainsFunc(s.Listen, func(l string) bool { return slices.Contains(ports, portOf(l)) }) {
			continue
		}
		for _, r := range s.Routes {
			var route struct{ Match []struct{ Host []string } }
			if json.Unmarshal(r, &route) == nil {
				for _, m := range route.Match {
					for _, h := range m.Host {
						hosts[h] = true
					}
				}
			}
		}
	}
	return hosts, nil
}

// yield takes routes out whose host the operator's file has: who reads that
// file finds there what is served.
func (b *batch) yield(ctx context.Context) error {
	if b.opts.System == nil {
		return nil
	}
	taken, err := b.takenHosts(ctx, b.next.ports())
	if isRefusal(err) {
		return b.opts.System.broken(err)
	}
	if err != nil {
		return err
	}
	for _, e := range b.next.sorted() {
		if taken[e.Route.Host] {
			b.refuse(e.Name, resource.Taken(reasonConflict, fmt.Errorf("%s has a site for %s; remove it there, or choose another host", b.opts.System.Caddyfile, e.Route.Host)))
			delete(b.next.Routes, e.Name)
		}
	}
	return nil
}

// contains reports whether a running configuration serves all of g. What the
// operator serves beside it is not our business.
func (d *Driver) contains(ctx context.Context, running []byte, g *generation) (bool, error) {
	text, err := g.text()
	if err != nil {
		return false, nil // not written by this version of ours; a Put writes it anew
	}
	ours, err := d.admin.adapt(ctx, text)
	if err != nil {
		if isRefusal(err) {
			return false, nil
		}
		return false, err
	}
	have := routesIn(running)
	for _, r := range routesIn(ours) {
		if !slices.Contains(have, r) {
			return false, nil
		}
	}
	return true, nil
}

// httpServer is what we read of one in Caddy's configuration.
type httpServer struct {
	Listen []string
	Routes []json.RawMessage
	Errors struct{ Routes []json.RawMessage }
}

func serversIn(config []byte) map[string]httpServer {
	var c struct {
		Apps struct {
			HTTP struct{ Servers map[string]httpServer }
		}
	}
	if json.Unmarshal(config, &c) != nil {
		return nil
	}
	return c.Apps.HTTP.Servers
}

func portOf(listen string) int {
	port, _ := strconv.Atoi(listen[strings.LastIndexByte(listen, ':')+1:]) // 0, nobody's, for a socket
	return port
}

// routesIn lists the routes of a configuration, each with the port that it is
// for and whether it is for errors.
func routesIn(config []byte) []string {
	var out []string
	for _, s := range serversIn(config) {
		for _, l := range s.Listen {
			for what, routes := range map[string][]json.RawMessage{"route": s.Routes, "error": s.Errors.Routes} {
				for _, r := range routes {
					var v any
					if json.Unmarshal(r, &v) == nil {
						b, _ := json.Marshal(v) // sorts keys; what was JSON always encodes
						out = append(out, fmt.Sprintf("%s %d %s", what, portOf(l), b))
					}
				}
			}
		}
	}
	return out
}
