package daemon

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/server/wire"
)

// dialTimeout of a connection to a machine on this host.
const dialTimeout = 5 * time.Second

// Dial implements server.Machines.
func (d *Daemon) Dial(ctx context.Context, ref v1alpha1.Ref, port uint16) (net.Conn, error) {
	v, err := d.view()
	if err != nil {
		return nil, err
	}
	i, target, found := v.Incarnations(ref.Kind, ref.Name)
	if !found {
		return nil, notFound(ref)
	}
	if i = cmp.Or(i, target); i == nil {
		return nil, conflict(fmt.Sprintf("%s has no machine yet", ref), "see why: tekton why "+ref.String())
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(d.naming.Addr(i.Slot), port).String())
	if err != nil {
		return nil, &wire.Error{Code: wire.Unavailable, Message: fmt.Sprintf("connect to port %d of %s: %v", port, ref, err), Next: "does it listen there, and not on its loopback only? tekton logs " + ref.String()}
	}
	return conn, nil
}

// Usage implements server.Machines.
func (d *Daemon) Usage(ctx context.Context) (v1alpha1.UsageReport, error) {
	report := v1alpha1.UsageReport{Items: []v1alpha1.Usage{}}
	v, err := d.view()
	if err != nil {
		return report, err
	}
	traffic, err := d.networks.Traffic()
	if err != nil {
		return report, err
	}
	report.Time = time.Now().UTC()
	for _, o := range v.Result.Compiled.Objects {
		seen := ""
		for _, i := range []*compile.Incarnation{o.Serving, o.Target} {
			if i == nil || i.Machine == seen {
				continue
			}
			seen = i.Machine
			u, running, err := d.machines.Usage(i.Machine)
			if err != nil {
				return report, err
			}
			if !running {
				continue
			}
			report.Items = append(report.Items, v1alpha1.Usage{
				Ref: v1alpha1.Ref{Kind: o.Record.Kind, Name: o.Record.Name}, Machine: i.Machine,
				CPUMicroseconds: u.CPU.Microseconds(), Memory: u.Memory, Tasks: u.Tasks, Estimated: u.Estimated, Disk: u.Disk,
				Received: traffic[i.Link].Received, Sent: traffic[i.Link].Sent,
			})
		}
		if err := ctx.Err(); err != nil {
			return report, err
		}
	}
	return report, nil
}
