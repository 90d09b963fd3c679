// Package ingress drives Caddy, one of our own or the host's (System): the kinds
// proxy and route.
//
// What Caddy serves is written down as a generation, a directory that is never
// changed once it has its name:
//
//	services/caddy/generations/000007/Caddyfile        global options, error pages, one import a site
//	services/caddy/generations/000007/sites/HOST.caddy one file a host name, from all routes on it
//	services/caddy/generations/000007/manifest.json    the same as data: what Observe reads
//	services/caddy/current -> generations/000007
//
// Invariants:
//   - current only ever names a configuration that Caddy has accepted, so that
//     Caddy comes up with all good sites whenever it is started again.
//   - A route is served when current has it and Caddy's running configuration
//     is current's. What current has and Caddy does not serve is observed with
//     values that nothing asks for (no backend, no port), so that it is neither
//     taken for right nor forgotten when it is to be deleted.
//   - A route that Caddy refuses stays out with an error of its own (a changed
//     one keeps its last good value); all others are served.
//   - One batch of steps is at most one accepted load. A converged Observe
//     starts no process and changes nothing.
//   - No byte of a route reaches a Caddyfile but through a check of its own and
//     quote. Site files are imported by name, so that a planted one is not read.
//   - A header that names a gate of the activator only ever is one of ours.
//   - Caddy runs as an unprivileged user whose admin socket only it and root
//     can reach; nothing of the host's own is touched but by loading its
//     operator's file. Certificate files are copied for it, so that keys may stay
//     0600 root and a restart does not depend on files of others.
//
// A generation is a cache of what the specs ask for: it is not synced to disk,
// a damaged one reads as none and is written anew.
//
// Paths match with upper and lower case told apart and by whole segments:
// /api matches /api and /api/x, not /apix.
//
// Over a change of routes requests and streams in flight go on, in any version
// of Caddy. Upgraded connections (websockets) go on for Proxy.GracePeriod with
// Caddy 2.7 and newer; 2.6 closes them with a close frame at each change and
// has no setting against it, so that clients there must connect again.
package ingress
