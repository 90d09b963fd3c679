package e2e_test

import (
	"encoding/json"
	"fmt"
	"testing"
)

// TestTop reads what machines use, of the kernel's own counters.
func TestTop(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("a.yaml", k.guest("idle"), k.guest("busy", "routes: [{host: busy.test, port: 8080}]"), k.guest("off", "enabled: false"))
	k.ready("idle", "busy")
	l := k.load("busy.test")
	k.eventually("the busy one is seen", func() error {
		var report struct {
			Items []struct {
				Name                                         string
				CPUPercent, ReceivedPerSecond, SentPerSecond float64
				Memory                                       int64
				Tasks                                        int
			}
		}
		if err := json.Unmarshal([]byte(k.must("top", "-o", "json", "--interval", "500ms")), &report); err != nil {
			return err
		}
		if len(report.Items) != 2 || report.Items[0].Name != "busy" {
			return fmt.Errorf("not first: %+v", report)
		}
		busy, idle := report.Items[0], report.Items[1]
		switch {
		case busy.CPUPercent <= idle.CPUPercent || busy.ReceivedPerSecond < 1000 || busy.SentPerSecond < 1000:
			return fmt.Errorf("not busy: %+v", report)
		case idle.Memory < 1<<20 || idle.Memory > 1<<30 || idle.Tasks < 3:
			return fmt.Errorf("no memory, no tasks: %+v", report)
		}
		return nil
	})
	l.end(t)
}
