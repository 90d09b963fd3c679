package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

// runtimeDropIns of systemd-resolved: what is there ends with the boot, and needs
// no writable /etc.
const runtimeDropIns = "/run/systemd/resolved.conf.d"

// dropInPath is the file by which the host's own systemd-resolved asks our
// server for our domain.
func (d *Driver) dropInPath() string {
	return filepath.Join(d.opts.DropIns, "tekton"+suffix(d.opts.Naming.Instance)+".conf")
}

func suffix(instance string) string {
	if instance == "" {
		return ""
	}
	return "-" + instance
}

func (d *Driver) dropInMark() string {
	return "# " + resource.Mark{Installation: d.opts.Installation, Owner: resource.HostOwner}.String()
}

func (d *Driver) dropIn(r resource.Resolver) []byte {
	return fmt.Appendf(nil, "%s\n# Written by tekton; removed with the last machine.\n[Resolve]\nDNS=%s\nDomains=~%s\n", d.dropInMark(), r.Listen.Addr(), r.Domain)
}

// asks reports whether the host asks our server, as far as files tell. One that
// nobody wants any more counts whatever is in it.
func (d *Driver) asks(r resource.Resolver) bool {
	have, err := os.ReadFile(d.dropInPath())
	if err != nil || !r.Resolved {
		return err == nil && bytes.HasPrefix(have, []byte(d.dropInMark()+"\n"))
	}
	return bytes.Equal(have, d.dropIn(r))
}

// syncDropIn brings the drop-in to what the zone asks for.
func (d *Driver) syncDropIn(ctx context.Context, r resource.Resolver) error {
	have, err := os.ReadFile(d.dropInPath())
	there := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if there && !bytes.HasPrefix(have, []byte(d.dropInMark()+"\n")) {
		if r.Resolved {
			return resource.Taken("Conflict", fmt.Errorf("%s is there and not ours; remove it, or set Host.spec.dns.resolved to false", d.dropInPath()))
		}
		return nil
	}
	want := r.Resolved && r.Listen.IsValid()
	switch {
	case want == there && (!want || bytes.Equal(have, d.dropIn(r))):
		return nil
	case !want:
		if err := os.Remove(d.dropInPath()); err != nil {
			return err
		}
		_ = os.Remove(d.opts.DropIns) // if nothing else is in it
		return reloadResolved(ctx)
	}
	if err := mayAddServer(ctx, r.Listen.Addr().String()); err != nil {
		return err
	}
	if err := os.MkdirAll(d.opts.DropIns, 0o755); err != nil {
		return err
	}
	if err := host.WriteFile(d.dropInPath(), d.dropIn(r), 0o644); err != nil {
		return err
	}
	return reloadResolved(ctx)
}

func reloadResolved(ctx context.Context) error {
	_, err := host.Run(ctx, host.Command{Argv: []string{"systemctl", "try-reload-or-restart", "systemd-resolved.service"}})
	if err != nil {
		return resource.Because("ResolvedConfig", fmt.Errorf("have systemd-resolved read its configuration: %w", err))
	}
	return nil
}

// mayAddServer makes sure that systemd-resolved goes on to ask others about all
// other names: a server of its whole configuration is asked in turn with those
// that are there, and instead of those that it falls back to.
func mayAddServer(ctx context.Context, ours string) error {
	out, err := host.Run(ctx, host.Command{Argv: []string{"resolvectl", "--no-pager", "dns"}})
	if err != nil {
		return resource.Taken("ResolvedConfig", fmt.Errorf("ask systemd-resolved for its servers: %w; without it set Host.spec.dns.resolved to false", err))
	}
	global, links := parseServers(string(out))
	global = slices.DeleteFunc(global, func(s string) bool { return s == ours })
	if len(global) > 0 || len(links) == 0 {
		return resource.Taken("ResolvedConfig", fmt.Errorf("names of machines are not resolved on the host: systemd-resolved has the servers %v for everything and %v on links; it keeps names apart only when all others are asked on a link (DNS= in its .network file, or from DHCP)", global, links))
	}
	return nil
}

// parseServers reads "Global: 1.1.1.1" and "Link 2 (eth0): 9.9.9.9 2620:fe::fe".
func parseServers(out string) (global, links []string) {
	for line := range strings.Lines(out) {
		scope, servers, found := strings.Cut(strings.TrimSpace(line), ": ")
		switch {
		case !found:
		case scope == "Global":
			global = append(global, strings.Fields(servers)...)
		default:
			links = append(links, strings.Fields(servers)...)
		}
	}
	return global, links
}
