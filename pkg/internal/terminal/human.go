package terminal

import (
	"fmt"
	"time"
)

// Age is a duration in its largest unit: "42s", "5m", "3h", "12d".
func Age(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// Since is the age of t at now; the zero time has none.
func Since(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return Age(now.Sub(t))
}

// Until is how far t is ahead: "in 5m", or "now".
func Until(t, now time.Time) string {
	if d := t.Sub(now); d > time.Second {
		return "in " + Age(d)
	}
	return "now"
}

// Bytes is a size in powers of 1024 with at most one decimal: "1.5G".
func Bytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d", n)
	}
	v, unit := float64(n), ""
	for _, u := range []string{"K", "M", "G", "T"} {
		if v < 1024 {
			break
		}
		v, unit = v/1024, u
	}
	if v >= 10 || v == float64(int64(v)) {
		return fmt.Sprintf("%.0f%s", v, unit)
	}
	return fmt.Sprintf("%.1f%s", v, unit)
}
