// Package servertest holds a Backend with state but without a host, for tests
// of the API's server, its client and the command line.
package servertest
