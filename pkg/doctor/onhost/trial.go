package onhost

import (
	"context"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/doctor"
)

func trialLeft(h v1alpha1.HostSpec) string { return "" }

func removeTrial(ctx context.Context, h v1alpha1.HostSpec, programs string) error { return nil }

func Try(ctx context.Context, h v1alpha1.HostSpec, programs string) doctor.Trial {
	return doctor.Trial{}
}
