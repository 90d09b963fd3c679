package webhook

import (
	"errors"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/forge"
)

// TestCheckAsksWhoMayWrite: a check is not silent where the forge tells us nobody's
// permission but our own.
func TestCheckAsksWhoMayWrite(t *testing.T) {
	for _, service := range []forge.Service{forge.GitHub, forge.Forgejo} {
		t.Run(string(service), func(t *testing.T) {
			b := newBench(t, service)
			forges := []Forge{{Name: "f", URL: "https://git.example.org", Client: b.client}}
			view := View{Known: true, Repositories: map[string]*v1alpha1.RepositorySpec{"shop": {URL: "https://git.example.org/acme/shop.git"}}}
			if err := checkRepository(t.Context(), forges, view, "shop"); errors.Is(err, forge.ErrRefused) != (service == forge.Forgejo) || err != nil && service == forge.GitHub {
				t.Errorf("who may only write: %v", err)
			}
			b.forge.Grant(shopAt, "tekton-bot", "admin")
			if err := checkRepository(t.Context(), forges, view, "shop"); err != nil {
				t.Error(err)
			}
		})
	}
}
