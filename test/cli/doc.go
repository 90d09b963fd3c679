// Package cli holds the scripts that drive the tekton binary against the API's
// server with a Backend that has no host.
package cli
