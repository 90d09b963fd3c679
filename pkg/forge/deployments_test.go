package forge_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tekton.host/pkg/forge"
)

// TestDeployments: whatever is shown one after another, also when it is broken
// off, ends with at most one deployment that is not inactive once it succeeded,
// and the same again changes nothing.
func TestDeployments(t *testing.T) {
	s, url := serve(t)
	c := client(t, forge.Options{URL: url})
	for i := range 4 {
		s.Open(shop, forge.PullRequest{Base: "main", Branch: "b", Commit: commit(i)})
	}
	environments := 0
	rapid.Check(t, func(t *rapid.T) {
		environments++
		env := fmt.Sprintf("preview-%d", environments)
		states := []forge.DeploymentState{forge.DeploymentInProgress, forge.DeploymentSuccess, forge.DeploymentFailure, forge.DeploymentInactive}
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			d := forge.Deployment{
				Environment: env, Commit: commit(rapid.IntRange(0, 3).Draw(t, "commit")), State: rapid.SampledFrom(states).Draw(t, "state"),
				URL: "https://" + env + ".example", Description: strings.Repeat("long ", rapid.IntRange(0, 40).Draw(t, "words")),
			}
			for range 2 {
				s.Requests()
				if err := c.SetDeployment(t.Context(), shop, d); err != nil {
					t.Fatal(err)
				}
			}
			for _, r := range s.Requests() {
				if strings.HasPrefix(r, "POST") {
					t.Fatalf("the same again: %s", r)
				}
			}
			var live []forge.Deployment
			var last forge.Deployment
			for _, o := range s.Deployments(shop) {
				if o.Environment != env {
					continue
				}
				last = o
				if o.State != forge.DeploymentInactive {
					live = append(live, o)
				}
			}
			switch d.State {
			case forge.DeploymentInactive:
				if len(live) != 0 {
					t.Fatalf("still live: %+v", live)
				}
			case forge.DeploymentSuccess:
				if len(live) != 1 || live[0].Commit != d.Commit {
					t.Fatalf("live: %+v", live)
				}
				fallthrough
			default:
				if last.Commit != d.Commit || last.State != d.State || last.URL != d.URL {
					t.Fatalf("last is %+v, want %+v", last, d)
				}
			}
		}
	})
}

func TestForgejoHasNoDeployments(t *testing.T) {
	s, url := serve(t)
	c := client(t, forge.Options{Service: forge.Forgejo, URL: url})
	if err := c.SetDeployment(t.Context(), shop, forge.Deployment{Environment: "x", State: forge.DeploymentSuccess}); err != nil {
		t.Error(err)
	}
	if r := s.Requests(); len(r) != 0 {
		t.Errorf("asked %v", r)
	}
}
