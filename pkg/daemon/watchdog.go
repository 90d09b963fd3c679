package daemon

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// tellSystemd says, where systemd asks for it, that the API can be asked, and
// then, for its watchdog, that the planner works: a process whose planner hangs
// is killed and started again, which no machine notices.
func (d *Daemon) tellSystemd(ctx context.Context) {
	daemon.SdNotify(false, daemon.SdNotifyReady)
	if interval, err := daemon.SdWatchdogEnabled(false); err == nil && interval > 0 {
		d.feedWatchdog(ctx, interval/4)
	}
	<-ctx.Done()
	daemon.SdNotify(false, daemon.SdNotifyStopping)
}

func (d *Daemon) feedWatchdog(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := d.engine.Alive(ctx); err == nil {
			daemon.SdNotify(false, daemon.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}
