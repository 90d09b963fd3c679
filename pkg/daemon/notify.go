package daemon

import (
	"context"
	"os"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/notify"
)

// notify tells the Host's notifications of objects that turn Ready or not.
func (d *Daemon) notify(ctx context.Context) error {
	if len(d.opts.Host.Notifications) == 0 {
		return nil
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	return notify.Run(ctx, notify.Options{
		Hooks: d.opts.Host.Notifications, Host: name, Dir: d.layout.Notifications(), Changed: d.Changed, Log: d.opts.Log.WithName("notify"),
		Items: func() ([]v1alpha1.Item, bool) {
			v, err := d.view()
			return v.Result.Items, err == nil
		},
	})
}
