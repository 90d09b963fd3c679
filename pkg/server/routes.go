package server

import (
	"net/http"

	"tekton.host/pkg/server/wire"
)

// route is a request that the API answers.
type route struct {
	pattern string
	answer  handler
	// readers get this answer; nil: they may not ask.
	readers handler
}

// routes are all that the API has. What the readable ones answer holds no secret,
// and they change nothing but when a remote is looked at. What a program has
// printed is not among it: nobody knows what that holds.
func (s *Server) routes(metrics http.Handler) []route {
	const object, source = wire.PathObjects + "/{kind}/{name}", wire.PathSources + "/{name}"
	routes := []route{
		{"GET " + wire.PathVersion, s.version, s.version},
		{"GET " + wire.PathObjects, s.objects, s.objects},
		{"GET " + wire.PathEvents, s.events, s.events},
		{"GET " + wire.PathSources, s.sources, s.sources},
		{"GET " + wire.PathProblems, s.problems, s.problems},
		{"POST " + wire.PathPlan, s.plan(true), s.plan(false)},
		{"POST " + source + "/sync", s.syncSource, s.syncSource},

		{"DELETE " + object, s.deleteObject, nil},
		{"POST " + object + "/restart", s.restart, nil},
		{"GET " + object + "/logs", s.logs, nil},
		{"POST " + object + "/exec", s.exec, nil},
		{"GET " + object + "/history", s.history, nil},
		{"POST " + object + "/connect", s.connect, nil},
		{"GET " + wire.PathUsage, s.usage, nil},
		{"POST " + source + "/release-deletes", s.releaseDeletes, nil},
		{"POST " + source + "/suspend", s.suspendSource, nil},
		{"POST " + source + "/resume", s.resumeSource, nil},
		{"POST " + wire.PathApply, s.apply, nil},
		{"GET " + wire.PathSecrets, s.listSecrets, nil},
		{"PUT " + wire.PathSecrets + "/{name}", s.setSecret, nil},
		{"DELETE " + wire.PathSecrets + "/{name}", s.deleteSecret, nil},
		{"GET " + wire.PathData, s.listData, nil},
		{"POST " + wire.PathData + "/{id}/restore", s.restoreData, nil},
		{"DELETE " + wire.PathData + "/{id}", s.deleteData, nil},
		{"GET " + wire.PathProfile + "/{name}", s.profile, nil},
	}
	if metrics != nil {
		show := func(w http.ResponseWriter, r *http.Request) error {
			metrics.ServeHTTP(w, r)
			return nil
		}
		routes = append(routes, route{"GET " + wire.PathMetrics, show, show})
	}
	return routes
}
