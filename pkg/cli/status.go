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
	switch p {
	case v1alpha1.PhaseReady:
		paint = v.Green
	case v1alpha1.PhaseFailed, v1alpha1.PhaseRejected:
		paint = v.Red
	case v1alpha1.PhaseDisabled, v1alpha1.PhasePaused, v1alpha1.PhaseDeleting, v1alpha1.PhaseExpired, v1alpha1.PhaseAsleep:
		paint = v.Faint
	}
	return terminal.Cell{Text: string(p), Paint: paint}
}
