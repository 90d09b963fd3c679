package forgetest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-github/v92/github"

	"tekton.host/pkg/forge"
	"tekton.host/pkg/forge/forgetest"
)

var (
	shop   = forge.Repository{Owner: "acme", Name: "shop"}
	commit = strings.Repeat("a", 40)
)

// serve is a forge with one repository, two pull requests (one of a fork) and the user octo.
func serve(t *testing.T) (*forgetest.Server, string) {
	t.Helper()
	s := forgetest.New()
	s.AddRepository(shop)
	s.AddToken("secret", "octo")
	s.Grant(shop, "octo", "write")
	s.Open(shop, forge.PullRequest{Base: "main", Branch: "feature", Commit: commit, Author: "dev", Labels: []string{"preview"}})
	s.Open(shop, forge.PullRequest{Base: "main", Branch: "fix", Commit: strings.Repeat("c", 40), Author: "stranger", Fork: true, Draft: true})
	url, stop, err := s.Serve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return s, url
}

func ask(t *testing.T, method, url, token string, body any) (*http.Response, any) {
	t.Helper()
	var text []byte
	if body != nil {
		text, _ = json.Marshal(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var v any
	json.NewDecoder(resp.Body).Decode(&v)
	return resp, v
}

// at is what a path leads to: base.repo.full_name, 0.number.
func at(v any, path string) any {
	for part := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[part]
		case []any:
			if v = nil; len(x) > 0 {
				v = x[0]
			}
		default:
			return nil
		}
	}
	return v
}

// TestAnswers writes down how GitHub documents each answer that we rely on, so
// that the server cannot drift from it unseen (docs.github.com/rest, 2022-11-28).
func TestAnswers(t *testing.T) {
	_, url := serve(t)
	const repo = "/repos/acme/shop"
	type fields map[string]any
	tests := []struct {
		name, method, path, token string
		body                      any
		status                    int
		header                    map[string]string
		fields                    fields
	}{
		{"pull request", "GET", repo + "/pulls/1", "secret", nil, 200, map[string]string{"Content-Type": "application/json; charset=utf-8", "X-RateLimit-Limit": "5000"},
			fields{"number": 1., "state": "open", "draft": false, "user.login": "dev", "labels.0.name": "preview", "head.ref": "feature", "head.sha": commit, "head.repo.full_name": "acme/shop", "base.ref": "main", "base.repo.full_name": "acme/shop"}},
		{"of a fork", "GET", repo + "/pulls/2", "secret", nil, 200, nil, fields{"draft": true, "head.repo.full_name": "stranger/shop", "head.repo.fork": true}},
		{"none", "GET", repo + "/pulls/9", "secret", nil, 404, nil, fields{"message": "Not Found", "status": "404"}},
		{"repository that is not shown", "GET", "/repos/acme/hidden/pulls", "secret", nil, 404, nil, fields{"message": "Not Found"}},
		{"bad token", "GET", repo + "/pulls/1", "wrong", nil, 401, nil, fields{"message": "Bad credentials"}},
		{"list, newest first", "GET", repo + "/pulls?per_page=1", "secret", nil, 200,
			map[string]string{"Link": fmt.Sprintf(`<%[1]s%[2]s/pulls?page=2&per_page=1>; rel="next", <%[1]s%[2]s/pulls?page=2&per_page=1>; rel="last"`, url, repo)}, fields{"0.number": 2.}},
		{"last page", "GET", repo + "/pulls?per_page=1&page=2", "secret", nil, 200,
			map[string]string{"Link": fmt.Sprintf(`<%[1]s%[2]s/pulls?page=1&per_page=1>; rel="prev", <%[1]s%[2]s/pulls?page=1&per_page=1>; rel="first"`, url, repo)}, fields{"0.number": 1.}},
		{"Forgejo's pages", "GET", "/api/v1" + repo + "/pulls?limit=1", "secret", nil, 200, map[string]string{"Link": fmt.Sprintf(`<%[1]s/api/v1%[2]s/pulls?limit=1&page=2>; rel="next", <%[1]s/api/v1%[2]s/pulls?limit=1&page=2>; rel="last"`, url, repo)}, nil},
		{"comment", "POST", repo + "/issues/1/comments", "secret", fields{"body": "x"}, 201, nil, fields{"body": "x", "user.login": "octo"}},
		{"comment of anybody", "POST", repo + "/issues/1/comments", "", fields{"body": "x"}, 401, nil, fields{"message": "Requires authentication"}},
		{"empty comment", "POST", repo + "/issues/1/comments", "secret", fields{"body": ""}, 422, nil, fields{"message": "Validation Failed", "errors.0.field": "body"}},
		{"long comment", "POST", repo + "/issues/1/comments", "secret", fields{"body": strings.Repeat("ü", 65537)}, 422, nil, nil},
		{"longest comment", "POST", repo + "/issues/1/comments", "secret", fields{"body": strings.Repeat("ü", 65536)}, 201, nil, nil},
		{"edit of what is gone", "PATCH", repo + "/issues/comments/1", "secret", fields{"body": "x"}, 404, nil, nil},
		{"permission", "GET", repo + "/collaborators/octo/permission", "secret", nil, 200, nil, fields{"permission": "write", "role_name": "write", "user.login": "octo"}},
		{"of an outsider", "GET", repo + "/collaborators/dev/permission", "secret", nil, 200, nil, fields{"permission": "read"}},
		{"of nobody", "GET", repo + "/collaborators/nobody/permission", "secret", nil, 404, nil, fields{"message": "nobody is not a user"}},
		{"Forgejo tells administrators only", "GET", "/api/v1" + repo + "/collaborators/dev/permission", "secret", nil, 403, nil, nil},
		{"and of oneself", "GET", "/api/v1" + repo + "/collaborators/octo/permission", "secret", nil, 200, nil, fields{"permission": "write"}},
		{"who am I", "GET", "/user", "secret", nil, 200, nil, fields{"login": "octo", "type": "User"}},
		{"deployment", "POST", repo + "/deployments", "secret", fields{"ref": commit, "environment": "p", "auto_merge": false, "required_contexts": []string{}}, 201, nil, fields{"sha": commit, "environment": "p", "task": "deploy"}},
		{"merging by default", "POST", repo + "/deployments", "secret", fields{"ref": commit, "required_contexts": []string{}}, 202, nil, nil},
		{"waiting for checks by default", "POST", repo + "/deployments", "secret", fields{"ref": commit, "auto_merge": false}, 409, nil, nil},
		{"no such ref", "POST", repo + "/deployments", "secret", fields{"ref": "gone", "auto_merge": false, "required_contexts": []string{}}, 422, nil, fields{"message": "No ref found for: gone"}},
		{"Forgejo has none", "GET", "/api/v1" + repo + "/deployments", "secret", nil, 404, nil, nil},
		{"app without its token", "GET", "/app", "secret", nil, 401, nil, fields{"message": "A JSON web token could not be decoded"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, v := ask(t, tt.method, url+tt.path, tt.token, tt.body)
			if resp.StatusCode != tt.status {
				t.Fatalf("%s: %v, want %d", resp.Status, v, tt.status)
			}
			for name, want := range tt.header {
				if got := resp.Header.Get(name); got != want {
					t.Errorf("%s: %s\n want %s", name, got, want)
				}
			}
			for path, want := range tt.fields {
				if diff := cmp.Diff(want, at(v, path)); diff != "" {
					t.Errorf("%s: -want +got:\n%s", path, diff)
				}
			}
		})
	}
}

// TestAGit: Forgejo and Gitea show the repository itself as the one that it is of
// (services/convert, ToAPIPullRequest).
func TestAGit(t *testing.T) {
	s, url := serve(t)
	n := s.OpenAGit(shop, forge.PullRequest{Base: "main", Commit: commit, Author: "stranger"})
	_, v := ask(t, "GET", fmt.Sprintf("%s/api/v1/repos/acme/shop/pulls/%d", url, n), "secret", nil)
	if at(v, "head.repo.id") == nil || at(v, "head.repo.id") != at(v, "base.repo.id") || at(v, "head.ref") != "refs/pull/3/head" || at(v, "user.login") != "stranger" {
		t.Errorf("%v", v)
	}
}

// TestImported: GitHub shows a mannequin; of what Forgejo and Gitea show it says that
// it was not posted there (modules/structs, Comment).
func TestImported(t *testing.T) {
	s, url := serve(t)
	s.Import(shop, 1, "stranger", "/preview")
	_, hub := ask(t, "GET", url+"/repos/acme/shop/issues/1/comments", "secret", nil)
	if at(hub, "0.user.login") != "stranger" || at(hub, "0.user.type") != "Mannequin" {
		t.Errorf("GitHub: %v", hub)
	}
	_, forgejo := ask(t, "GET", url+"/api/v1/repos/acme/shop/issues/1/comments", "secret", nil)
	if at(forgejo, "0.user.login") != "acme" || at(forgejo, "0.original_author") != "stranger" {
		t.Errorf("Forgejo: %v", forgejo)
	}
}

// TestConditional: what has not changed is not sent again, and does not count.
func TestConditional(t *testing.T) {
	s, url := serve(t)
	resp, _ := ask(t, "GET", url+"/repos/acme/shop/pulls", "secret", nil)
	s.SetLimit(1, time.Now().Add(time.Hour))
	for range 3 {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", url+"/repos/acme/shop/pulls", nil)
		req.Header.Set("Authorization", "Bearer secret")
		req.Header.Set("If-None-Match", resp.Header.Get("ETag"))
		again, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		again.Body.Close()
		if again.StatusCode != http.StatusNotModified {
			t.Fatalf("%s", again.Status)
		}
	}
}

// TestUsualClient: the Go client that others use understands the server.
func TestUsualClient(t *testing.T) {
	s, url := serve(t)
	base := url + "/api/v3/"
	c, err := github.NewClient(github.WithAuthToken("secret"), github.WithURLs(&base, &base))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	var numbers []int
	for p, err := range c.PullRequests.ListIter(ctx, "acme", "shop", &github.PullRequestListOptions{ListOptions: github.ListOptions{PerPage: 1}}) {
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, p.GetNumber())
	}
	if diff := cmp.Diff([]int{2, 1}, numbers); diff != "" {
		t.Error(diff)
	}
	p, _, err := c.PullRequests.Get(ctx, "acme", "shop", 2)
	if err != nil || !p.GetDraft() || p.GetHead().GetRepo().GetFullName() != "stranger/shop" || p.GetUser().GetLogin() != "stranger" {
		t.Errorf("%v, %v", p, err)
	}
	level, _, err := c.Repositories.GetPermissionLevel(ctx, "acme", "shop", "octo")
	if err != nil || level.GetPermission() != "write" {
		t.Errorf("%v, %v", level, err)
	}
	d, _, err := c.Repositories.CreateDeployment(ctx, "acme", "shop", github.DeploymentRequest{Ref: commit, AutoMerge: new(false), RequiredContexts: []string{}, Environment: new("preview"), TransientEnvironment: new(true)})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Repositories.CreateDeploymentStatus(ctx, "acme", "shop", d.GetID(), github.DeploymentStatusRequest{State: "success", EnvironmentURL: new("https://x.example")}); err != nil {
		t.Error(err)
	}
	states, _, err := c.Repositories.ListDeploymentStatuses(ctx, "acme", "shop", d.GetID(), nil)
	if err != nil || len(states) != 1 || states[0].GetState() != "success" || states[0].GetEnvironmentURL() != "https://x.example" {
		t.Errorf("%v, %v", states, err)
	}
	s.SetFault(forgetest.Unavailable(http.StatusBadGateway))
	if _, _, err := c.Users.Get(ctx, ""); err == nil {
		t.Error("no error of a bad gateway")
	}
	s.SetFault(forgetest.SecondaryLimit(time.Minute))
	_, _, err = c.Users.Get(ctx, "")
	if e, ok := errors.AsType[*github.AbuseRateLimitError](err); !ok || *e.RetryAfter != time.Minute {
		t.Errorf("secondary limit is taken for %v", err)
	}
	s.SetFault(nil)
	s.SetLimit(0, time.Now().Add(time.Hour))
	fresh, _ := github.NewClient(github.WithAuthToken("secret"), github.WithURLs(&base, &base))
	_, _, err = fresh.Users.Get(ctx, "")
	if _, ok := errors.AsType[*github.RateLimitError](err); !ok {
		t.Errorf("primary limit is taken for %v", err)
	}
}

// TestUsualWebhook: the same client's receiver understands the deliveries.
func TestUsualWebhook(t *testing.T) {
	s := forgetest.New()
	s.AddRepository(shop)
	s.AddHook(forgetest.Hook{URL: "http://127.0.0.1:1/", Secret: "hook"})
	n := s.Open(shop, forge.PullRequest{Base: "main", Branch: "feature", Commit: commit, Author: "dev"})
	s.Push(shop, n, strings.Repeat("b", 40))
	s.Label(shop, n, "preview")
	s.SetDraft(shop, n, true)
	s.Rebase(shop, n, "next")
	s.Say(shop, n, "octo", "/preview")
	s.PushBranch(shop, "main", commit)
	s.Close(shop, n)
	var got []string
	for _, d := range s.Deliveries() {
		req, _ := http.NewRequest("POST", d.URL, bytes.NewReader(d.Body))
		req.Header = d.Header
		body, err := github.ValidatePayload(req, []byte("hook"))
		if err != nil {
			t.Fatal(err)
		}
		event, err := github.ParseWebHook(github.WebHookType(req), body)
		if err != nil {
			t.Fatal(err)
		}
		switch e := event.(type) {
		case *github.PingEvent:
			got = append(got, "ping")
		case *github.PullRequestEvent:
			got = append(got, e.GetAction()+" "+e.GetPullRequest().GetHead().GetRef())
		case *github.IssueCommentEvent:
			got = append(got, "comment "+e.GetComment().GetBody()+fmt.Sprint(e.GetIssue().IsPullRequest()))
		case *github.PushEvent:
			got = append(got, "push "+e.GetRef())
		}
		ours, err := forge.Parse(d.Header, d.Body)
		if err != nil || ours.Kind != d.Header.Get("X-GitHub-Event") {
			t.Errorf("we read %+v, %v", ours, err)
		}
		if err := forge.Verify(d.Header, d.Body, []byte("hook")); err != nil {
			t.Error(err)
		}
	}
	want := []string{"ping", "opened feature", "synchronize feature", "labeled feature", "converted_to_draft feature", "edited feature", "comment /previewtrue", "push refs/heads/main", "closed feature"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
