package forge

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

type (
	wireDeployment struct {
		ID  int64  `json:"id"`
		SHA string `json:"sha"`
	}
	wireStatus struct {
		State       DeploymentState `json:"state"`
		URL         string          `json:"environment_url"`
		LogURL      string          `json:"log_url"`
		Description string          `json:"description"`
	}
)

// SetDeployment implements Client. GitHub ends former deployments by itself only
// where the environment stays; ours goes with its pull request, so we do: those
// of other commits as soon as this one has succeeded, and all when it ends.
func (c *API) SetDeployment(ctx context.Context, r Repository, d Deployment) error {
	if c.service != GitHub {
		return nil
	}
	q, err := in(r, http.MethodGet, "deployments")
	if err != nil {
		return err
	}
	q.query = url.Values{"environment": {d.Environment}}
	list, err := all[wireDeployment](ctx, c, q) // newest first
	if err != nil {
		return err
	}
	want := wireStatus{State: d.State, URL: d.URL, LogURL: d.LogURL, Description: shortened(d.Description)}
	if d.State == DeploymentInactive {
		return c.inactivate(ctx, r, list, want)
	}
	if len(list) == 0 || list[0].SHA != d.Commit {
		made, err := c.createDeployment(ctx, r, d)
		if err != nil {
			return err
		}
		list = slices.Insert(list, 0, made)
	}
	if err := c.setStatus(ctx, r, list[0].ID, want); err != nil {
		return err
	}
	if d.State == DeploymentSuccess {
		return c.inactivate(ctx, r, list[1:], wireStatus{State: DeploymentInactive})
	}
	return nil
}

func (c *API) createDeployment(ctx context.Context, r Repository, d Deployment) (wireDeployment, error) {
	q, err := in(r, http.MethodPost, "deployments")
	if err != nil {
		return wireDeployment{}, err
	}
	q.body = map[string]any{
		"ref": d.Commit, "environment": d.Environment, "description": shortened(d.Description), "transient_environment": true, "production_environment": false,
		// It shows the commit as it is, whatever its checks say and whatever the base has got since.
		"auto_merge": false, "required_contexts": []string{},
	}
	made, _, err := ask[wireDeployment](ctx, c, q)
	if err == nil && made.ID == 0 {
		err = fmt.Errorf("%s made no deployment of %s", r, d.Commit)
	}
	return made, err
}

// status is the latest of a deployment.
func (c *API) status(ctx context.Context, r Repository, id int64) (wireStatus, error) {
	q, err := in(r, http.MethodGet, "deployments", strconv.FormatInt(id, 10), "statuses")
	if err != nil {
		return wireStatus{}, err
	}
	q.query = url.Values{"per_page": {"1"}}
	list, _, err := ask[[]wireStatus](ctx, c, q)
	if err != nil || len(list) == 0 {
		return wireStatus{}, err
	}
	return list[0], nil
}

// setStatus adds a status, if it is another than the latest.
func (c *API) setStatus(ctx context.Context, r Repository, id int64, want wireStatus) error {
	is, err := c.status(ctx, r, id)
	if err != nil || is == want {
		return err
	}
	q, err := in(r, http.MethodPost, "deployments", strconv.FormatInt(id, 10), "statuses")
	if err != nil {
		return err
	}
	q.body = struct {
		wireStatus
		AutoInactive bool `json:"auto_inactive"`
	}{want, false}
	_, _, err = ask[wireStatus](ctx, c, q)
	return err
}

// inactivate ends deployments, newest first in list, up to the first that has
// ended. The oldest goes first, so that one that was interrupted goes on.
func (c *API) inactivate(ctx context.Context, r Repository, list []wireDeployment, want wireStatus) error {
	var live []wireDeployment
	for _, d := range list {
		is, err := c.status(ctx, r, d.ID)
		if err != nil {
			return err
		}
		if is.State == DeploymentInactive {
			break
		}
		live = append(live, d)
	}
	for _, d := range slices.Backward(live) {
		if err := c.setStatus(ctx, r, d.ID, want); err != nil {
			return err
		}
	}
	return nil
}

// shortened is a description that GitHub takes.
func shortened(s string) string {
	const most = 140
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
