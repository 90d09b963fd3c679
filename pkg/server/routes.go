package server

import (
	"net/http"

	"tekton.host/pkg/server/wire"
)

// route is a request that the API answers.
type route struct {
	pattern string
	answer  handler
	// operators and readers get these answers; nil: they may not ask.
	operators handler
	readers   handler
}

// routes are all that the API has, and what of it the narrower sockets have. What
// readers are answered holds no secret, and they change nothing but when a remote is
// looked at. What a program has printed is not among it: nobody knows what that
// holds. Operators see that, too, and have machines started anew; what reaches into a
// machine, or changes specs, secrets or data, is for the first socket alone.
func (s *Server) routes(metrics http.Handler) []route {
	const object, source = wire.PathObjects + "/{kind}/{name}", wire.PathSources + "/{name}"
	routes := []route{
		{"GET " + wire.PathVersion, s.version, s.version, s.version},
		{"GET " + wire.PathObjects, s.objects, s.objects, s.objects},
		{"GET " + wire.PathEvents, s.events, s.events, s.events},
		{"GET " + wire.PathSources, s.sources, s.sources, s.sources},
		{"GET " + wire.PathProblems, s.problems, s.problems, s.problems},
		{"POST " + wire.PathPlan, s.plan(true), s.plan(false), s.plan(false)},
		{"POST " + source + "/sync", s.syncSource, s.syncSource, s.syncSource},

		{"DELETE " + object, s.deleteObject, nil, nil},
		{"POST " + object + "/restart", s.restart, s.restart, nil},
		{"GET " + object + "/logs", s.logs, s.logs, nil},
		{"POST " + object + "/exec", s.exec, nil, nil},
		{"GET " + object + "/history", s.history, nil, nil},
		{"POST " + object + "/connect", s.connect, nil, nil},
		{"GET " + wire.PathUsage, s.usage, s.usage, nil},
		{"POST " + source + "/release-deletes", s.releaseDeletes, nil, nil},
		{"POST " + source + "/suspend", s.suspendSource, s.suspendSource, nil},
		{"POST " + source + "/resume", s.resumeSource, s.resumeSource, nil},
		{"POST " + wire.PathApply, s.apply, nil, nil},
		{"GET " + wire.PathSecrets, s.listSecrets, nil, nil},
		{"PUT " + wire.PathSecrets + "/{name}", s.setSecret, nil, nil},
		{"DELETE " + wire.PathSecrets + "/{name}", s.deleteSecret, nil, nil},
		{"GET " + wire.PathData, s.listData, nil, nil},
		{"POST " + wire.PathData + "/{id}/restore", s.restoreData, nil, nil},
		{"DELETE " + wire.PathData + "/{id}", s.deleteData, nil, nil},
		{"GET " + wire.PathBackup, s.backup, nil, nil},
		{"POST " + wire.PathBackup + "/databases/{name}", s.backupDatabase, nil, nil},
		{"GET " + wire.PathProfile + "/{name}", s.profile, nil, nil},
	}
	if metrics != nil {
		show := func(w http.ResponseWriter, r *http.Request) error {
			metrics.ServeHTTP(w, r)
			return nil
		}
		routes = append(routes, route{"GET " + wire.PathMetrics, show, show, show})
	}
	return routes
}
