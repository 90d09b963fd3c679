package forgetest

import (
	"fmt"
	"hash/crc32"
	"strings"
	"time"
)

func userJSON(login string) map[string]any {
	kind := "User"
	if strings.HasSuffix(login, "[bot]") {
		kind = "Bot"
	}
	return map[string]any{
		"login": login, "id": int64(crc32.ChecksumIEEE([]byte(strings.ToLower(login)))), "type": kind, "site_admin": false,
		"html_url": "https://github.example/" + login,
	}
}

func repositoryJSON(r *repository) map[string]any {
	return map[string]any{
		"id": r.id, "name": r.name.Name, "full_name": r.name.String(), "private": false, "fork": false,
		"owner":     userJSON(r.name.Owner),
		"html_url":  "https://github.example/" + r.name.String(),
		"clone_url": "https://github.example/" + r.name.String() + ".git",
	}
}

func (r *request) pullJSON(repo *repository, p *pull) map[string]any {
	return pullJSON(r.base, repo, p)
}

func pullJSON(base string, repo *repository, p *pull) map[string]any {
	state, closed := "open", any(nil)
	if !p.Open {
		state, closed = "closed", p.Opened.Format(time.RFC3339)
	}
	labels := []any{}
	for _, l := range p.Labels {
		labels = append(labels, map[string]any{"id": int64(crc32.ChecksumIEEE([]byte(l))), "name": l, "color": "ededed", "default": false})
	}
	owner, head := repo.name.Owner, any(repositoryJSON(repo))
	if p.Fork && !p.agit { // of a repository that is gone: GitHub and Forgejo show null
		owner, head = p.Author, nil
		if p.Author != "" && !strings.HasPrefix(p.Author, "nobody") {
			fork := &repository{id: repo.id + 1_000_000_000, name: repo.name}
			fork.name.Owner = p.Author
			j := repositoryJSON(fork)
			j["fork"] = true
			head = j
		}
	}
	return map[string]any{
		"id": p.id, "number": p.Number, "state": state, "locked": false, "draft": p.Draft,
		"title": "Change " + p.Branch, "body": nil, "user": userJSON(p.Author), "labels": labels,
		"url":        fmt.Sprintf("%s/repos/%s/pulls/%d", base, repo.name, p.Number),
		"html_url":   p.URL,
		"created_at": p.Opened.Format(time.RFC3339), "updated_at": p.Opened.Format(time.RFC3339), "closed_at": closed, "merged_at": nil,
		"head": map[string]any{"label": owner + ":" + p.Branch, "ref": p.Branch, "sha": p.Commit, "user": userJSON(owner), "repo": head},
		"base": map[string]any{"label": repo.name.Owner + ":" + p.Base, "ref": p.Base, "sha": strings.Repeat("b", 40), "user": userJSON(repo.name.Owner), "repo": repositoryJSON(repo)},
	}
}

func (r *request) commentJSON(repo *repository, c *comment) map[string]any {
	j := commentJSON(r.base, repo, c)
	user := userJSON(c.Author)
	switch {
	case c.imported && r.forgejo:
		j["user"], j["original_author"], j["original_author_id"] = userJSON(repo.name.Owner), c.Author, user["id"]
	case c.imported:
		user["type"] = "Mannequin"
		j["user"] = user
	}
	return j
}

func commentJSON(base string, repo *repository, c *comment) map[string]any {
	association := "NONE"
	if repo.mayWrite(c.Author) {
		association = "COLLABORATOR"
	}
	return map[string]any{
		"id": c.ID, "body": c.Body, "user": userJSON(c.Author), "author_association": association,
		"url":        fmt.Sprintf("%s/repos/%s/issues/comments/%d", base, repo.name, c.ID),
		"html_url":   fmt.Sprintf("https://github.example/%s/pull/%d#issuecomment-%d", repo.name, c.number, c.ID),
		"created_at": c.Created.Format(time.RFC3339), "updated_at": c.Created.Format(time.RFC3339),
	}
}
