package v1alpha1

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is written "90s", "5m", "1h30m".
type Duration struct{ time.Duration }

// String is the shortest form: 5m, not 5m0s.
func (d Duration) String() string {
	s := d.Duration.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalJSON writes the shortest form.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON accepts only strings with a unit: a bare number would leave the unit to guesswork.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("must be a duration with a unit such as %q", "90s")
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as %q%s", s, "90s", inHours(s))
	}
	d.Duration = v
	return nil
}

// inHours is for those who write days, of which a change of clocks makes 23 or 25 hours.
func inHours(s string) string {
	if n, err := strconv.Atoi(strings.TrimSuffix(s, "d")); err == nil && n > 0 && n < 10_000 && strings.HasSuffix(s, "d") {
		return fmt.Sprintf("; write %q", strconv.Itoa(24*n)+"h")
	}
	return "; its units are h, m and s"
}

// Quantity is a number of bytes, written in systemd's units: "512M", "2G",
// or in the same powers of two as "512Mi", "2Gi".
type Quantity struct {
	Bytes int64
	text  string
}

var quantityUnits = map[string]int64{"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

// ParseQuantity reads a quantity. "500m" is refused: in Kubernetes it is half a byte.
func ParseQuantity(s string) (Quantity, error) {
	digits := strings.TrimRight(s, "KMGTi")
	unit := strings.TrimSuffix(s[len(digits):], "i")
	factor, ok := quantityUnits[unit]
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case strings.HasSuffix(s, "m"):
		return Quantity{}, fmt.Errorf("%q means thousandths of a byte in Kubernetes; write %q for megabytes", s, strings.TrimSuffix(s, "m")+"M")
	case err != nil || !ok || (unit == "" && strings.HasSuffix(s, "i")):
		return Quantity{}, fmt.Errorf("%q is not a size such as 512M, 512Mi or 2G (powers of 1024)", s)
	case n <= 0:
		return Quantity{}, fmt.Errorf("%q must be more than zero", s)
	case n > (1<<62)/factor:
		return Quantity{}, fmt.Errorf("%q is too large", s)
	}
	return Quantity{Bytes: n * factor, text: s}, nil
}

// String is the quantity as it was written.
func (q Quantity) String() string {
	if q.text == "" {
		return strconv.FormatInt(q.Bytes, 10)
	}
	return q.text
}

// MarshalJSON writes the quantity as it was written.
func (q Quantity) MarshalJSON() ([]byte, error) { return json.Marshal(q.String()) }

// UnmarshalJSON accepts a string with a unit or a bare number of bytes.
func (q *Quantity) UnmarshalJSON(b []byte) error {
	s := string(b)
	if strings.HasPrefix(s, `"`) {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}
	v, err := ParseQuantity(s)
	if err != nil {
		return err
	}
	*q = v
	return nil
}

// Equal reports whether both are the same number of bytes, written alike.
func (q Quantity) Equal(o Quantity) bool { return q == o }
