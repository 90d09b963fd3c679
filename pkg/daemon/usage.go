package daemon

import (
	"context"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
)

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
