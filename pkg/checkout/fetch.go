package checkout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"tekton.host/pkg/job"
	"tekton.host/pkg/repository"
	"tekton.host/pkg/resource"
)

const (
	// verb of tektond that fetches.
	verb = "fetch"
	// jobVersion of a fetch's description.
	jobVersion = 1
	// tidyTimeout bounds what is done after a fetch.
	tidyTimeout = 10 * time.Minute
	// username that goes with a token, which forges do not look at.
	username = "git"
)

// description of one attempt to fetch.
type description struct {
	job.Header
	URL    string `json:"url"`
	Ref    string `json:"ref"`
	Secret string `json:"secret,omitempty"`
	// SecretFile holds its value, which is read by the attempt only.
	SecretFile     string   `json:"secretFile,omitempty"`
	Digest         string   `json:"digest,omitempty"`
	Files          []string `json:"files,omitempty"`
	MaxSize        int64    `json:"maxSize"`
	Mirror         string   `json:"mirror"`
	RunDir         string   `json:"runDir"`
	User           string   `json:"user"`
	KnownHostsFile string   `json:"knownHostsFile"`
}

// References of a mirror: what is kept for a checkout, and what was fetched and
// is looked at.
func keptRef(name string) string    { return "refs/tekton/checkouts/" + name }
func fetchedRef(name string) string { return "refs/tekton/fetched/" + name }

// RunFetch makes the attempt of a checkout's directory. It is the whole work of
// the supervised process; what it says on out is the fetch's log.
func RunFetch(ctx context.Context, dir string, out io.Writer) error {
	f := &fetch{Attempt: job.Attempt{Dir: dir, Out: out, Failed: reasonFetch, Timeout: reasonTimeout}}
	f.Progress = func() any { return f.progress() }
	defer f.close()
	err := f.Run(ctx, jobVersion, &f.description, f.work, func() error { return nil })
	f.tidy(ctx)
	return err
}

type fetch struct {
	job.Attempt
	description
	lock repository.Lock
	repo *repository.Repository

	mu   sync.Mutex
	told string // by git, of its progress
}

// work brings what the reference is now.
func (f *fetch) work(ctx context.Context) error {
	f.Begin("preparing")
	if err := f.open(ctx); err != nil {
		return err
	}
	err := f.bring(ctx)
	if failure, ok := errors.AsType[*job.Failure](err); err == nil || ok && failure.Reason != reasonFetch || !f.lock.Alone() {
		return err
	}
	// Nobody else uses the mirror now.
	defer f.lock.Shared()
	if !f.repo.Damaged(ctx) {
		return err
	}
	f.Say("tekton: the mirror is damaged and is made anew: %v", err)
	if err := errors.Join(f.repo.Remove(), f.repo.Ensure(ctx)); err != nil {
		return err
	}
	return f.bring(ctx)
}

// open opens the mirror. Who is there alone makes it, and removes what
// attempts that were killed have left.
func (f *fetch) open(ctx context.Context) (err error) {
	o := repository.Options{
		URL: f.URL, Dir: f.Mirror, RunDir: f.RunDir, User: f.User, MaxSize: f.MaxSize, Timeout: time.Duration(f.Deadline),
	}
	if u, err := url.Parse(f.URL); err == nil && u.Scheme == "ssh" {
		o.SSHKeyFile = f.SecretFile
		if _, err := os.Stat(f.KnownHostsFile); err == nil { // else ssh says that it knows nobody
			o.KnownHostsFile = f.KnownHostsFile
		}
	} else {
		o.TokenFile, o.Username = f.SecretFile, username
	}
	if f.lock, err = repository.OpenLock(f.Mirror); err != nil {
		return err
	}
	if f.repo, err = repository.Open(o); err != nil {
		return err
	}
	if f.lock.Alone() {
		if err := f.repo.Ensure(ctx); err != nil {
			return f.explain(err)
		}
		if err := f.repo.Unlock(); err != nil {
			return err
		}
		if f.repo.Interrupted() {
			_ = f.repo.Prune(ctx) // told when there is no room for what is fetched
		}
	}
	return f.lock.Shared()
}

// close removes the copy of the secret, and gives the lock back.
func (f *fetch) close() {
	if f.repo != nil {
		f.repo.Close()
	}
	f.lock.Close()
}

// tidy keeps the mirror small. Its end is not waited for.
func (f *fetch) tidy(ctx context.Context) {
	if f.repo == nil || ctx.Err() != nil || !f.lock.Alone() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tidyTimeout)
	defer cancel()
	if f.repo.Interrupted() {
		_ = f.repo.Prune(ctx)
	}
	if err := f.repo.Tidy(ctx); err != nil && ctx.Err() == nil {
		f.Say("tekton: tidy the mirror: %v", err)
	}
}

// commitID is a full commit.
var commitID = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// bring resolves the reference, fetches it and keeps it.
func (f *fetch) bring(ctx context.Context) error {
	f.Begin("asking the server")
	result := resource.Fetched{Dir: f.Mirror, FetchedAt: time.Now()}
	source, id := f.Ref, f.Ref
	if !commitID.MatchString(f.Ref) {
		var err error
		if source, id, err = f.resolve(ctx); err != nil {
			return err
		}
		result.Branch = source
	}
	if !f.has(ctx, id) {
		if err := f.fetch(ctx, source); err != nil {
			return err
		}
		id = fetchedRef(f.Name)
	}
	f.Begin("looking at the commit")
	commit, err := f.examine(ctx, id)
	if err != nil {
		return err
	}
	if result.Submodules, err = f.measure(ctx, commit); err != nil {
		return err
	}
	if result.Files, err = f.read(ctx, commit); err != nil {
		return err
	}
	for _, args := range [][]string{{"update-ref", "--no-deref", keptRef(f.Name), commit}, {"update-ref", "--no-deref", "-d", fetchedRef(f.Name)}} {
		if _, err := f.repo.Git(ctx, args...); err != nil {
			return f.explain(err)
		}
	}
	kept, found, err := f.repo.Ref(ctx, keptRef(f.Name))
	if err != nil || !found {
		return f.explain(errors.Join(err, errors.New("the commit was fetched, and it is not there")))
	}
	result.Commit, result.CommittedAt = kept.ID, kept.At
	f.Say("tekton: %s of %s is %s", f.Ref, f.URL, kept.ID)
	return f.Succeed(result)
}

// resolve asks the server what it has of the reference's name, and where that is.
func (f *fetch) resolve(ctx context.Context) (name, id string, err error) {
	names := []string{"refs/heads/" + f.Ref, "refs/tags/" + f.Ref}
	if f.Ref == "HEAD" || strings.HasPrefix(f.Ref, "refs/") {
		names = []string{f.Ref}
	}
	if f.Ref != "HEAD" {
		if _, err := f.repo.Run(ctx, repository.Run{Args: []string{"check-ref-format", names[0]}, Anywhere: true}); err != nil {
			return "", "", job.Failed(reasonRef, "%q is not the name of a branch or tag; next step: correct it", f.Ref)
		}
	}
	out, err := f.repo.Run(ctx, repository.Run{Args: append([]string{"ls-remote", "--symref", "--", f.URL}, names...)})
	if err != nil {
		return "", "", f.explain(err)
	}
	ids, head := map[string]string{}, ""
	for line := range strings.Lines(out) {
		id, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if target, symbolic := strings.CutPrefix(id, "ref: "); symbolic && name == "HEAD" {
			head = target
			continue
		}
		ids[name] = id
	}
	for _, name := range names {
		id, found := ids[name]
		switch {
		case !found:
		case name == "HEAD" && strings.HasPrefix(head, "refs/"):
			return head, id, nil
		default:
			return name, id, nil
		}
	}
	if f.Ref == "HEAD" {
		return "", "", job.Failed(reasonNoRef, "the repository %s is empty; next step: push a branch", f.URL)
	}
	return "", "", job.Failed(reasonNoRef, "the repository %s has no branch or tag %q; next step: push it, or correct the name", f.URL, f.Ref)
}

// has reports whether the mirror has a commit with all that belongs to it: then
// a reference of ours, all of which were fetched whole, contains it.
func (f *fetch) has(ctx context.Context, id string) bool {
	out, err := f.repo.Git(ctx, "for-each-ref", "--count=1", "--format=%(refname)", "--contains="+id, "refs/tekton/checkouts/")
	return err == nil && out != ""
}

// fetch brings a reference or commit of the server with its history.
func (f *fetch) fetch(ctx context.Context, source string) error {
	f.Begin("fetching")
	f.Say("tekton: fetching %s of %s", source, f.URL)
	_, err := f.repo.Run(ctx, repository.Run{
		Args: []string{"fetch", "--progress", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance",
			"--", f.URL, "+" + source + ":" + fetchedRef(f.Name)},
		Progress: f.tell,
	})
	if err != nil && f.repo.TooLarge() {
		return f.tooLarge("a fetch of it brings more than %d bytes", f.MaxSize)
	}
	return f.explain(err)
}

func (f *fetch) tooLarge(format string, args ...any) error {
	return job.Failed(reasonTooLarge, "%s is too large: %s; next step: name a smaller repository, or raise spec.git.maxSize of the Host", f.URL, fmt.Sprintf(format, args...))
}

// examine returns the commit that an object is, or names.
func (f *fetch) examine(ctx context.Context, object string) (string, error) {
	out, err := f.repo.Git(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", object+"^{commit}")
	commit := strings.TrimSpace(out)
	if err != nil || !commitID.MatchString(commit) {
		return "", job.Failed(reasonNoRef, "%q of %s is no commit; next step: name a branch, a tag or a commit", f.Ref, f.URL)
	}
	return commit, nil
}

// measure refuses a commit whose files are too many, or too large together: a
// few bytes can stand for any number of them.
func (f *fetch) measure(ctx context.Context, commit string) (submodules int, err error) {
	t := &tree{maxSize: f.MaxSize}
	_, err = f.repo.Run(ctx, repository.Run{Args: []string{"ls-tree", "-r", "-l", "-z", "--full-tree", commit}, Stdout: t})
	if t.over != "" {
		return 0, f.tooLarge("%s", t.over)
	}
	return t.submodules, f.explain(err)
}

// progress is what is done now, for people.
func (f *fetch) progress() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	phase := f.Phase()
	if phase == "fetching" && f.told != "" {
		return f.told
	}
	return phase
}

// tell takes a line that git said of its progress.
func (f *fetch) tell(line string) {
	f.mu.Lock()
	f.told = line
	f.mu.Unlock()
	// The log gets what is not overwritten by the next percent.
	if !strings.Contains(line, "%") || strings.HasSuffix(line, "done.") {
		f.Say("%s", line)
	}
}
