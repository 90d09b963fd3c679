package forgetest

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"tekton.host/pkg/forge"
)

func (s *Server) routes() {
	s.handle("GET /user", (*request).user)
	s.handle("GET /app", (*request).theApp)
	s.handle("POST /app/installations/{id}/access_tokens", (*request).accessToken)
	s.handle("GET /repos/{owner}/{repo}/installation", (*request).installation)
	s.handle("GET /repos/{owner}/{repo}/pulls", in((*request).listPulls))
	s.handle("GET /repos/{owner}/{repo}/pulls/{number}", in((*request).getPull))
	s.handle("GET /repos/{owner}/{repo}/issues/{number}/comments", in((*request).listComments))
	s.handle("POST /repos/{owner}/{repo}/issues/{number}/comments", in((*request).createComment))
	s.handle("PATCH /repos/{owner}/{repo}/issues/comments/{id}", in((*request).editComment))
	s.handle("GET /repos/{owner}/{repo}/collaborators/{user}/permission", in((*request).permission))
	s.handle("GET /repos/{owner}/{repo}/deployments", in((*request).listDeployments))
	s.handle("POST /repos/{owner}/{repo}/deployments", in((*request).createDeployment))
	s.handle("GET /repos/{owner}/{repo}/deployments/{id}/statuses", in((*request).listStatuses))
	s.handle("POST /repos/{owner}/{repo}/deployments/{id}/statuses", in((*request).createStatus))
	s.handle("/", func(*request) answer { return notFound() })
}

// in answers in a repository that the asker may see.
func in(h func(r *request, repo *repository) answer) handler {
	return func(r *request) answer {
		repo := r.s.repos[key(forge.Repository{Owner: r.PathValue("owner"), Name: r.PathValue("repo")})]
		if repo == nil || r.as.owner != "" && !strings.EqualFold(r.as.owner, repo.name.Owner) {
			return notFound()
		}
		if r.forgejo && strings.Contains(r.URL.Path, "/deployments") {
			return notFound()
		}
		if r.Method != http.MethodGet && r.as.login == "" {
			return refuse(http.StatusUnauthorized, "Requires authentication", "https://docs.github.com/rest")
		}
		return h(r, repo)
	}
}

func (r *request) user() answer {
	switch {
	case r.as.login == "":
		return refuse(http.StatusUnauthorized, "Requires authentication", "https://docs.github.com/rest")
	case r.as.owner != "":
		return refuse(http.StatusForbidden, "Resource not accessible by integration", "https://docs.github.com/rest/users/users#get-the-authenticated-user")
	}
	return ok(userJSON(r.as.login))
}

func (r *request) listPulls(repo *repository) answer {
	state := r.URL.Query().Get("state")
	var all []any
	for _, p := range slices.Backward(repo.pulls) { // newest first
		if state == "all" || p.Open == (state != "closed") {
			all = append(all, r.pullJSON(repo, p))
		}
	}
	if !r.forgejo && r.URL.Query().Get("direction") == "asc" { // sort is by created, there is no other
		slices.Reverse(all)
	}
	return page(r, all)
}

func (r *request) getPull(repo *repository) answer {
	p := repo.pull(number(r.PathValue("number"), 0, 1<<31-1))
	if p == nil {
		return notFound()
	}
	return ok(r.pullJSON(repo, p))
}

func (r *request) listComments(repo *repository) answer {
	n := number(r.PathValue("number"), 0, 1<<31-1)
	if repo.pull(n) == nil {
		return notFound()
	}
	var all []any
	for _, c := range repo.of(n) {
		all = append(all, r.commentJSON(repo, c))
	}
	return page(r, all)
}

// commentBody is what was sent as a comment, if it is one.
func (r *request) commentBody() (string, answer) {
	var sent struct{ Body string }
	if !r.decode(&sent) {
		return "", refuse(http.StatusBadRequest, "Problems parsing JSON", "https://docs.github.com/rest/issues/comments")
	}
	if sent.Body == "" {
		return "", invalid("Validation Failed", "body", "missing_field")
	}
	if utf8.RuneCountInString(sent.Body) > 65536 {
		return "", invalid("Validation Failed: body is too long (maximum is 65536 characters)", "body", "invalid")
	}
	return sent.Body, answer{}
}

func invalid(message, field, code string) answer {
	return answer{status: http.StatusUnprocessableEntity, body: map[string]any{
		"message": message, "documentation_url": "https://docs.github.com/rest", "status": "422",
		"errors": []any{map[string]any{"resource": "IssueComment", "field": field, "code": code}},
	}}
}

func (r *request) createComment(repo *repository) answer {
	n := number(r.PathValue("number"), 0, 1<<31-1)
	if repo.pull(n) == nil {
		return notFound()
	}
	body, a := r.commentBody()
	if a.status != 0 {
		return a
	}
	return answer{status: http.StatusCreated, body: r.commentJSON(repo, r.s.say(repo, n, r.as.login, body))}
}

func (r *request) editComment(repo *repository) answer {
	id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
	c := repo.comment(id)
	if c == nil {
		return notFound()
	}
	if !strings.EqualFold(c.Author, r.as.login) && !repo.mayWrite(r.as.login) {
		return refuse(http.StatusForbidden, "Must have admin rights to Repository.", "https://docs.github.com/rest/issues/comments#update-an-issue-comment")
	}
	body, a := r.commentBody()
	if a.status != 0 {
		return a
	}
	c.Body = body
	r.s.tellComment(repo, c, "edited")
	return ok(r.commentJSON(repo, c))
}

func (r *repository) mayWrite(login string) bool {
	p := r.grants[strings.ToLower(login)]
	return p == "admin" || p == "write"
}

// permission of a user who is no collaborator is read; of one who is none, there is none.
func (r *request) permission(repo *repository) answer {
	login := r.PathValue("user")
	if strings.HasPrefix(login, "nobody") {
		return refuse(http.StatusNotFound, login+" is not a user", "https://docs.github.com/rest/collaborators/collaborators#get-repository-permissions-for-a-user")
	}
	if r.forgejo && !strings.EqualFold(login, r.as.login) && repo.grants[strings.ToLower(r.as.login)] != "admin" {
		return refuse(http.StatusForbidden, "Only admins can query all permissions, repo admins can query all repo permissions, collaborators can query only their own", "")
	}
	p := repo.grants[strings.ToLower(login)]
	if p == "" {
		p = "read"
	}
	return ok(map[string]any{"permission": p, "role_name": p, "user": userJSON(login)})
}
