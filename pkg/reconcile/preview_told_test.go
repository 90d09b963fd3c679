package reconcile

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/spec"
	"tekton.host/pkg/webhook"
)

// pullRequest shows a commit of a pull request, as the webhook asks for it.
func (s *sim) pullRequest(commit string) {
	p := &v1alpha1.Preview{
		Metadata: v1alpha1.ObjectMeta{Name: "shop"},
		Spec:     v1alpha1.PreviewSpec{Repository: v1alpha1.PreviewRepository{URL: forge}, PullRequest: 7, Commit: commit, Host: "shop.preview.test", Refresh: &v1alpha1.Duration{Duration: time.Hour}},
	}
	p.Default(&s.conf.Host)
	s.files["shop.yaml"] = specFile{docs: []spec.Object{{Object: p, Position: spec.Position{File: "shop.yaml", Line: 1}, Digest: spec.Digest(p)}}}
}

// TestPreviewIsTold: what the daemon says of a preview, moment by moment, is the
// news that people are to read, and no other. The first word is the kind of news;
// a URL follows where there is something to see.
func TestPreviewIsTold(t *testing.T) {
	tell, err := webhook.NewFeedback(webhook.FeedbackOptions{State: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s := newSim(t)
	commit := func(c string) string { return strings.Repeat(c, 40) }
	told := func(c string) []string {
		var news []string
		for range 3000 {
			goesOn := s.tick() || s.wait()
			for _, i := range s.last.Items {
				text := tell.Text(webhook.Outcome{Verdict: webhook.Verdict{State: webhook.StateShown, Commit: commit(c)}, Preview: "shop", Item: &i})
				n, _, _ := strings.Cut(text, "\n")
				if n == "making" && len(news) > 0 && strings.HasPrefix(news[len(news)-1], n) {
					continue // of the way there people read once
				}
				if strings.Contains(text, "https://shop.preview.test") {
					n += " url"
				}
				if len(news) == 0 || news[len(news)-1] != n {
					news = append(news, n)
				}
			}
			if !goesOn {
				return news
			}
		}
		t.Fatal("no end")
		return nil
	}
	for _, step := range []struct {
		commit, config string
		fails          string
		want           []string
	}{
		{"1", application, "", []string{"making", "ready url"}},
		{"2", application, "", []string{"making url", "ready url"}},
		{"3", "service: []\n", "", []string{"making url", "failed url"}},
		{"4", application, "", []string{"making url", "ready url"}},
		{"5", application, "SetupFailed", []string{"making url", "failed url"}},
	} {
		if step.fails != "" {
			setupFails(commit(step.commit), step.fails)(s)
		}
		s.pushes(commit(step.commit), step.config)
		s.pullRequest(commit(step.commit))
		got := told(step.commit)
		if step.fails != "" && len(got) > 2 { // it is tried again, and fails again
			got = got[:2]
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("commit %s: -want +got:\n%s", step.commit, diff)
		}
	}
}
