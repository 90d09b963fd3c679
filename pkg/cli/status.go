package cli

import (
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
)

// certificate is one line on a host's certificate.
func certificate(c v1alpha1.CertificateStatus) string {
	if c.NotAfter.IsZero() {
		return joined(", ", c.Host, "none yet", c.Message)
	}
	return joined(", ", c.Host, "expires "+c.NotAfter.Local().Format(time.DateOnly))
}

func (v view) phase(p v1alpha1.Phase) terminal.Cell {
	paint := v.Yellow
	switch {
	case p == v1alpha1.PhaseReady:
		paint = v.Green
	case p == v1alpha1.PhaseFailed || p == v1alpha1.PhaseRejected:
		paint = v.Red
	case p == v1alpha1.PhaseDeleting || p.Resting():
		paint = v.Faint
	}
	return terminal.Cell{Text: string(p), Paint: paint}
}
