package forgetest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tekton.host/pkg/forge"
)

type deployment struct {
	forge.Deployment
	id        int64
	task      string
	creator   string
	transient bool
	created   time.Time
	statuses  []status
}

type status struct {
	id          int64
	state       string
	url, logURL string
	description string
	creator     string
	created     time.Time
}

// now is the deployment in its latest state.
func (d *deployment) now() forge.Deployment {
	v := d.Deployment
	if len(d.statuses) > 0 {
		s := d.statuses[len(d.statuses)-1]
		v.State, v.URL, v.LogURL, v.Description = forge.DeploymentState(s.state), s.url, s.logURL, s.description
	}
	return v
}

func (r *request) listDeployments(repo *repository) answer {
	q := r.URL.Query()
	var all []any
	for _, d := range slices.Backward(repo.deployments) {
		if matches(q.Get("environment"), d.Environment) && matches(q.Get("sha"), d.Commit) && matches(q.Get("ref"), d.Commit) && matches(q.Get("task"), d.task) {
			all = append(all, r.deploymentJSON(repo, d))
		}
	}
	return page(r, all)
}

func matches(asked, is string) bool { return asked == "" || asked == "none" || asked == is }

// createDeployment refuses what GitHub refuses: a reference that is not there,
// and commits without the checks that it waits for, unless told otherwise.
func (r *request) createDeployment(repo *repository) answer {
	sent := struct {
		Ref, Task, Environment, Description string
		AutoMerge                           *bool     `json:"auto_merge"`
		RequiredContexts                    *[]string `json:"required_contexts"`
		Transient                           bool      `json:"transient_environment"`
	}{Task: "deploy", Environment: "production"}
	if !r.decode(&sent) || sent.Ref == "" {
		return refuse(http.StatusBadRequest, "Problems parsing JSON", "https://docs.github.com/rest/deployments/deployments")
	}
	if !slices.ContainsFunc(repo.pulls, func(p *pull) bool { return p.Commit == sent.Ref }) {
		return refuse(http.StatusUnprocessableEntity, "No ref found for: "+sent.Ref, "https://docs.github.com/rest/deployments/deployments#create-a-deployment")
	}
	if sent.RequiredContexts == nil || len(*sent.RequiredContexts) > 0 {
		return refuse(http.StatusConflict, "Conflict: Commit status checks failed for "+sent.Ref, "https://docs.github.com/rest/deployments/deployments#create-a-deployment")
	}
	if sent.AutoMerge == nil || *sent.AutoMerge {
		return answer{status: http.StatusAccepted, body: map[string]any{"message": "Auto-merged main into " + sent.Ref + " on deployment."}}
	}
	if utf8.RuneCountInString(sent.Description) > 140 {
		return invalid("Validation Failed", "description", "too_long")
	}
	d := &deployment{id: r.s.id(), task: sent.Task, creator: r.as.login, transient: sent.Transient, created: now()}
	d.Environment, d.Commit, d.Description = sent.Environment, sent.Ref, sent.Description
	repo.deployments = append(repo.deployments, d)
	return answer{status: http.StatusCreated, body: r.deploymentJSON(repo, d)}
}

func (repo *repository) deployment(id string) *deployment {
	for _, d := range repo.deployments {
		if strconv.FormatInt(d.id, 10) == id {
			return d
		}
	}
	return nil
}

func (r *request) listStatuses(repo *repository) answer {
	d := repo.deployment(r.PathValue("id"))
	if d == nil {
		return notFound()
	}
	var all []any
	for _, s := range slices.Backward(d.statuses) {
		all = append(all, r.statusJSON(repo, d, s))
	}
	return page(r, all)
}

var deploymentStates = []string{"error", "failure", "inactive", "in_progress", "queued", "pending", "success"}

func (r *request) createStatus(repo *repository) answer {
	d := repo.deployment(r.PathValue("id"))
	if d == nil {
		return notFound()
	}
	var sent struct {
		State, Description string
		LogURL             string `json:"log_url"`
		EnvironmentURL     string `json:"environment_url"`
		AutoInactive       *bool  `json:"auto_inactive"`
	}
	if !r.decode(&sent) {
		return refuse(http.StatusBadRequest, "Problems parsing JSON", "https://docs.github.com/rest/deployments/statuses")
	}
	if !slices.Contains(deploymentStates, sent.State) {
		return invalid("Validation Failed", "state", "custom")
	}
	if utf8.RuneCountInString(sent.Description) > 140 {
		return invalid("Validation Failed", "description", "too_long")
	}
	for _, u := range []string{sent.LogURL, sent.EnvironmentURL} {
		if u != "" && !strings.HasPrefix(u, "http://") && !strings.HasPrefix(u, "https://") {
			return invalid("Validation Failed", "url", "must use http(s) scheme")
		}
	}
	if sent.State == "success" && (sent.AutoInactive == nil || *sent.AutoInactive) {
		r.inactivate(repo, d)
	}
	st := status{id: r.s.id(), state: sent.State, url: sent.EnvironmentURL, logURL: sent.LogURL, description: sent.Description, creator: r.as.login, created: now()}
	d.statuses = append(d.statuses, st)
	return answer{status: http.StatusCreated, body: r.statusJSON(repo, d, st)}
}

// inactivate does to former deployments of an environment what GitHub does by
// itself: only to those that succeeded, and not where it is transient.
func (r *request) inactivate(repo *repository, but *deployment) {
	for _, d := range repo.deployments {
		if d != but && d.Environment == but.Environment && !d.transient && d.now().State == forge.DeploymentSuccess {
			d.statuses = append(d.statuses, status{id: r.s.id(), state: "inactive", creator: r.as.login, created: now()})
		}
	}
}

func (r *request) deploymentJSON(repo *repository, d *deployment) map[string]any {
	u := fmt.Sprintf("%s/repos/%s/deployments/%d", r.base, repo.name, d.id)
	return map[string]any{
		"id": d.id, "url": u, "statuses_url": u + "/statuses", "sha": d.Commit, "ref": d.Commit, "task": d.task, "payload": map[string]any{},
		"environment": d.Environment, "original_environment": d.Environment, "description": d.Description, "creator": userJSON(d.creator),
		"transient_environment": d.transient, "production_environment": false,
		"created_at": d.created.Format(time.RFC3339), "updated_at": d.created.Format(time.RFC3339),
	}
}

func (r *request) statusJSON(repo *repository, d *deployment, s status) map[string]any {
	u := fmt.Sprintf("%s/repos/%s/deployments/%d", r.base, repo.name, d.id)
	return map[string]any{
		"id": s.id, "url": fmt.Sprintf("%s/statuses/%d", u, s.id), "deployment_url": u, "state": s.state, "environment": d.Environment,
		"environment_url": s.url, "log_url": s.logURL, "target_url": s.logURL, "description": s.description, "creator": userJSON(s.creator),
		"created_at": s.created.Format(time.RFC3339), "updated_at": s.created.Format(time.RFC3339),
	}
}
