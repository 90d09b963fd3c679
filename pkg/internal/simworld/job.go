package simworld

import (
	"strings"

	"tekton.host/pkg/resource"
)

// begin starts the wanted attempt of a job, unless it was begun already, or is
// not the one that the plan saw.
func (w *World) begin(s resource.Step, v resource.Worked) error {
	r := s.Resource
	old, there := w.Things[r.ID]
	have, how := 0, resource.Job{}
	if there {
		have, how = old.Value.(resource.Worked).Work()
	}
	if wanted, _ := v.Work(); have >= wanted {
		return nil
	}
	if s.Seen != nil {
		if seen, _ := s.Seen.Value.(resource.Worked).Work(); seen != have {
			return resource.ErrStale
		}
	}
	how = resource.Job{Running: true, StartedAt: w.Now, Failures: how.Failures}
	switch v := v.(type) {
	case resource.Closure:
		w.Builds[v.Flake]++
		v.Unrooted, v.Build = false, resource.Build{Job: how}
		if there {
			was := old.Value.(resource.Closure)
			v.Build.Result, v.Unrooted = was.Build.Result, was.Unrooted
		}
		r.Value = v
	case resource.Checkout:
		w.Fetches[v.URL]++
		v.Lost, v.Fetch = false, resource.Fetch{Job: how}
		if there {
			was := old.Value.(resource.Checkout)
			v.Fetch.Result, v.Lost = was.Fetch.Result, was.Lost
		}
		r.Value = v
	}
	w.Things[r.ID] = r
	return nil
}

// EndJobs lets all jobs that run come to their end; false: none ran.
func (w *World) EndJobs() bool {
	return w.endJobs(func(v resource.Worked) resource.Worked {
		switch v := v.(type) {
		case resource.Closure:
			path, says := w.Flakes[v.Flake]
			if !says {
				path = StorePath(v.Flake)
			}
			if path == "" {
				v.Build.Job = failed(v.Build.Job, "BuildFailed", "builder failed with exit code 1")
				return v
			}
			v.Unrooted, v.Build.Failures, v.Build.Result = false, 0, resource.Built{StorePath: path, Locked: v.Flake + "?locked", LockedAt: w.Now}
			if v.Config != "" { // says of itself what it is
				v.Build.Result.StorePath, v.Build.Result.Meta = StorePath(v.Flake+v.Config+"#preview"), v.Config
			}
			return v
		case resource.Checkout:
			commit, says := w.Repositories[v.URL]
			if !says {
				commit = Commit(v.URL)
			}
			if commit == "" {
				v.Fetch.Job = failed(v.Fetch.Job, "RefNotFound", "no such branch")
				return v
			}
			v.Lost, v.Fetch.Failures, v.Fetch.Result = false, 0, resource.Fetched{Commit: commit, Dir: "/mirrors/of-it.git", FetchedAt: w.Now, Files: w.texts(commit, v.Files)}
			return v
		}
		return v
	})
}

func (w *World) texts(commit string, files []string) map[string]*string {
	texts := map[string]*string{}
	for _, name := range files {
		texts[name] = nil
		if text, has := w.Texts[commit]; has {
			texts[name] = &text
		}
	}
	return texts
}

// LoseCheckouts damages all mirrors.
func (w *World) LoseCheckouts() {
	for id, r := range w.Things {
		if v, ok := r.Value.(resource.Checkout); ok && v.Fetch.Result.Commit != "" {
			v.Lost = true
			r.Value = v
			w.Things[id] = r
		}
	}
}

// Working reports whether a job runs: its end is seen.
func (w *World) Working() bool {
	for _, r := range w.Things {
		if v, isJob := r.Value.(resource.Worked); isJob {
			if _, how := v.Work(); how.Running {
				return true
			}
		}
	}
	return false
}

// interruptJobs is what a reboot does to them.
func (w *World) interruptJobs() {
	w.endJobs(func(v resource.Worked) resource.Worked {
		_, how := v.Work()
		return withJob(v, failed(how, "Interrupted", "the host was restarted"))
	})
}

func failed(how resource.Job, reason, message string) resource.Job {
	how.Reason, how.Message = reason, message
	how.Failures++
	return how
}

func withJob(v resource.Worked, how resource.Job) resource.Worked {
	switch v := v.(type) {
	case resource.Closure:
		v.Build.Job = how
		return v
	case resource.Checkout:
		v.Fetch.Job = how
		return v
	}
	return v
}

func (w *World) endJobs(end func(resource.Worked) resource.Worked) bool {
	any := false
	for id, r := range w.Things {
		v, isJob := r.Value.(resource.Worked)
		if !isJob {
			continue
		}
		_, how := v.Work()
		if !how.Running {
			continue
		}
		any = true
		how.Running, how.EndedAt = false, w.Now
		r.Value = end(withJob(v, how))
		w.Things[id] = r
	}
	return any
}

// StorePath is what a flake builds to where Flakes does not say otherwise.
func StorePath(flake string) string {
	return "/nix/store/" + resource.ClosureName(flake, false) + "-" + flake[strings.LastIndexByte(flake, '#')+1:]
}

// Commit is what a repository is at where Repositories does not say otherwise.
func Commit(url string) string { return "commit-of-" + url }

// built reports whether a closure's latest build, or that of an instance, gave the path.
func (w *World) built(path string) bool {
	return w.has(resource.KindClosure, func(r resource.Resource) bool { return r.Value.(resource.Closure).Build.Result.StorePath == path }) ||
		w.has(resource.KindInstance, func(r resource.Resource) bool { return r.Value.(resource.Instance).System.StorePath == path })
}

// fetched reports whether a checkout has a commit.
func (w *World) fetched(url, commit string) bool {
	return w.has(resource.KindCheckout, func(r resource.Resource) bool {
		v := r.Value.(resource.Checkout)
		return v.URL == url && v.Fetch.Result.Commit == commit && !v.Lost
	})
}
