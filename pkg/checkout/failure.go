package checkout

import (
	"errors"
	"strings"

	"tekton.host/pkg/job"
	"tekton.host/pkg/repository"
)

// Reasons of a failed fetch.
const (
	reasonFetch       = "FetchFailed"
	reasonTimeout     = "FetchTimeout"
	reasonRepository  = "RepositoryNotFound"
	reasonMoved       = "RepositoryMoved"
	reasonUnreachable = "RepositoryUnreachable"
	reasonAuth        = "AuthenticationFailed"
	reasonHostKey     = "HostKeyUnknown"
	reasonRef         = "InvalidRef"
	reasonNoRef       = "RefNotFound"
	reasonTooLarge    = "TooLarge"
	reasonObjects     = "InvalidObjects"
	reasonDiskFull    = "DiskFull"
)

// failures are told apart by what git, ssh and servers say; the first that fits.
var failures = []struct {
	reason string
	says   []string
	next   string
}{
	{reasonDiskFull, []string{"No space left on device", "Disk quota exceeded"}, "make room on the disk of the state directory"},
	{reasonHostKey, []string{"Host key verification failed"}, "add the server's host key to the file of spec.git.knownHostsFile of the Host (ssh-keyscan prints it; compare it with what the server's owner publishes)"},
	{reasonNoRef, []string{"couldn't find remote ref", "not our ref", "unadvertised object", "no such remote ref"}, "push it, or correct the name; a commit must be on a branch or tag of the server"},
	{reasonAuth, []string{"Authentication failed", "could not read Username", "could not read Password", "Permission denied", "error: 401", "error: 403", "error in libcrypto", "invalid format"},
		"check that the repository is there, and that the secret is its token (https) or key (ssh) and may read it: tekton secret set NAME"},
	{reasonRepository, []string{"error: 404", "not found", "does not appear to be a git repository", "does not exist"}, "check the url; a private repository needs a secret"},
	{reasonMoved, []string{"error: 301", "error: 302", "error: 307", "error: 308"}, "write the url that the server leads to (some want it to end with .git): nobody is led elsewhere with a secret"},
	{reasonObjects, []string{"fsck error", "fsckObjects", "unpacker error"}, "repair the repository: git fsck there says more"},
	{reasonUnreachable, []string{"Could not resolve", "Failed to connect", "Connection refused", "Connection reset", "Connection timed out", "No route to host", "unreachable", "SSL", "certificate", "error: 5"},
		"check the url, the server and this host's network"},
}

// explain gives a failed run of git its reason and a next step.
func (f *fetch) explain(err error) error {
	failed, ok := errors.AsType[*repository.Error](err)
	if !ok {
		return err
	}
	for _, x := range failures {
		for _, said := range x.says {
			if strings.Contains(failed.Said, said) {
				return job.Failed(x.reason, "%s: %w; next step: %s", f.URL, err, x.next)
			}
		}
	}
	return job.Failed(reasonFetch, "%s: %w", f.URL, err)
}
