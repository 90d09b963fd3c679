package server

import (
	"net/http"

	"tekton.host/pkg/server/wire"
)

// route is a request that the API answers.
type route struct {
	pattern string
	answer  handler
	// readable: readers may ask it, too.
	readable bool
}

// routes are all that the API has. What the readable ones answer holds no secret,
// and they change nothing but when a remote is looked at. What a program has
// printed is not among it: nobody knows what that holds.
func (s *Server) routes(metrics http.Handler) []route {
	const object, source = wire.PathObjects + "/{kind}/{name}", wire.PathSources + "/{name}"
	routes := []route{
		{"GET " + wire.PathVersion, s.version, true},
		{"GET " + wire.PathObjects, s.objects, true},
		{"GET " + wire.PathEvents, s.events, true},
		{"GET " + wire.PathSources, s.sources, true},
		{"GET " + wire.PathProblems, s.problems, true},
		{"POST " + wire.PathPlan, oneByOne(s.plan), true},
		{"POST " + source + "/sync", s.syncSource, true},

		{"DELETE " + object, s.deleteObject, false},
		{"POST " + object + "/restart", s.restart, false},
		{"GET " + object + "/logs", s.logs, false},
		{"POST " + object + "/exec", s.exec, false},
		{"GET " + object + "/history", s.history, false},
		{"POST " + object + "/connect", s.connect, false},
		{"GET " + wire.PathUsage, s.usage, false},
		{"POST " + source + "/release-deletes", s.releaseDeletes, false},
		{"POST " + source + "/suspend", s.suspendSource, false},
		{"POST " + source + "/resume", s.resumeSource, false},
		{"POST " + wire.PathApply, s.apply, false},
		{"GET " + wire.PathSecrets, s.listSecrets, false},
		{"PUT " + wire.PathSecrets + "/{name}", s.setSecret, false},
		{"DELETE " + wire.PathSecrets + "/{name}", s.deleteSecret, false},
		{"GET " + wire.PathData, s.listData, false},
		{"POST " + wire.PathData + "/{id}/restore", s.restoreData, false},
		{"DELETE " + wire.PathData + "/{id}", s.deleteData, false},
		{"GET " + wire.PathProfile + "/{name}", s.profile, false},
	}
	if metrics != nil {
		routes = append(routes, route{"GET " + wire.PathMetrics, func(w http.ResponseWriter, r *http.Request) error {
			metrics.ServeHTTP(w, r)
			return nil
		}, true})
	}
	return routes
}

// oneByOne has each request wait for the one before: what takes a processor
// takes one.
func oneByOne(h handler) handler {
	turn := make(chan struct{}, 1)
	return func(w http.ResponseWriter, r *http.Request) error {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
			return h(w, r)
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
}
