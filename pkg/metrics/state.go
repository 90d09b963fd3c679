package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tekton.host/pkg/api/v1alpha1"
)

// View is what is so at the moment of a scrape.
type View struct {
	// Read is false until the host was read once; then there is nothing to tell.
	Read    bool
	Items   []v1alpha1.Item
	Sources []v1alpha1.SourceStatus
	// Problems are those of spec files.
	Problems int
	// Planned steps wait or run; Busy objects have one that runs.
	Planned int
	Slots   Slots
}

// Slots of the subnet: each is an address for a machine.
type Slots struct{ Used, Cooling, Total int }

// state collects what is so now.
type state struct {
	view func() View

	read, planned, slots, problems                         *prometheus.Desc
	objects, conditions, ready, restarts, started          *prometheus.Desc
	expiry                                                 *prometheus.Desc
	building, buildTook                                    *prometheus.Desc
	complete, declared, held, synced, rejected, specsSince *prometheus.Desc
	failing, commit                                        *prometheus.Desc
}

func stateOf(view func() View) *state {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("tekton_"+name, help, labels, nil)
	}
	return &state{
		view:       view,
		read:       desc("host_read", "1 once the daemon has read the host whole."),
		planned:    desc("steps_planned", "Steps that the last pass planned."),
		slots:      desc("slots", "Addresses for machines.", "state"),
		problems:   desc("spec_problems", "Problems of spec files; their last good version stays."),
		objects:    desc("objects", "Objects.", "kind", "phase"),
		conditions: desc("object_conditions", "Conditions of all objects of a kind.", "kind", "type", "status"),
		ready:      desc("object_ready", "1 where the object is Ready; nothing of one that is to stand still, or goes.", "kind", "name"),
		restarts:   desc("object_restarts", "How often the machine has ended by itself, in a row.", "kind", "name"),
		started:    desc("object_start_time_seconds", "When the machine was started.", "kind", "name"),
		expiry:     desc("certificate_expiry_time_seconds", "When the certificate of a host expires; 0: there is none yet.", "host"),
		building:   desc("object_building", "1 while the object's flake is built.", "kind", "name"),
		buildTook:  desc("object_build_duration_seconds", "How long the latest build took, or has taken so far.", "kind", "name"),
		complete:   desc("source_complete", "1 where the source was read whole; else nothing of it is deleted.", "source"),
		declared:   desc("source_objects", "Objects that the source declares.", "source"),
		held:       desc("source_held_deletes", "Deletions that wait for tekton release-deletes.", "source"),
		synced:     desc("source_sync_time_seconds", "When the repository was last reached; nothing while it is suspended.", "source"),
		rejected:   desc("source_rejected", "1 while the newest commit is not used.", "source"),
		failing:    desc("source_failing", "1 while what the branch has is not in effect, whatever the reason; nothing while it is suspended.", "source"),
		commit:     desc("source_commit_info", "The commit in effect.", "source", "commit"),
		specsSince: desc("source_commit_time_seconds", "When the commit in effect was made.", "source"),
	}
}

// Describe implements prometheus.Collector.
func (s *state) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		s.read, s.planned, s.slots, s.problems, s.objects, s.conditions, s.ready, s.restarts, s.started, s.expiry, s.building, s.buildTook,
		s.complete, s.declared, s.held, s.synced, s.rejected, s.specsSince, s.failing, s.commit,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (s *state) Collect(to chan<- prometheus.Metric) {
	tell := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	v := s.view()
	tell(s.read, one(v.Read))
	if !v.Read {
		return
	}
	tell(s.planned, float64(v.Planned))
	tell(s.problems, float64(v.Problems))
	tell(s.slots, float64(v.Slots.Used), "used")
	tell(s.slots, float64(v.Slots.Cooling), "cooling")
	tell(s.slots, float64(v.Slots.Total-v.Slots.Used-v.Slots.Cooling), "free")
	s.collectObjects(tell, v.Items)
	for _, source := range v.Sources {
		s.collectSource(tell, source)
	}
}

type teller func(d *prometheus.Desc, value float64, labels ...string)

func (s *state) collectObjects(tell teller, items []v1alpha1.Item) {
	phases, conditions, told := map[[2]string]int{}, map[[3]string]int{}, map[[2]string]bool{}
	hosts := map[string]bool{} // objects share them
	for _, i := range items {
		phases[[2]string{i.Kind, string(i.Status.Phase)}]++
		ready := false
		for _, c := range i.Status.Conditions {
			conditions[[3]string{i.Kind, c.Type, string(c.Status)}]++
			ready = ready || c.Type == v1alpha1.ConditionReady && c.Good()
		}
		name := i.Metadata.Name
		if told[[2]string{i.Kind, name}] || i.Metadata.UID == "" {
			continue // a rejected one may have the name of another; a name told twice fails the scrape
		}
		told[[2]string{i.Kind, name}] = true
		// One that somebody switched off, or that goes, is not missed.
		if p := i.Status.Phase; p == v1alpha1.PhaseAsleep || p != v1alpha1.PhaseDeleting && !p.Resting() {
			tell(s.ready, one(ready), i.Kind, name)
		}
		tell(s.restarts, float64(i.Status.Restarts), i.Kind, name)
		if !i.Status.StartedAt.IsZero() {
			tell(s.started, seconds(i.Status.StartedAt), i.Kind, name)
		}
		for _, c := range i.Status.Certificates {
			if at := float64(0); !hosts[c.Host] {
				if hosts[c.Host] = true; !c.NotAfter.IsZero() {
					at = seconds(c.NotAfter)
				}
				tell(s.expiry, at, c.Host)
			}
		}
		if b := i.Status.Build; b != nil && !b.StartedAt.IsZero() {
			end := b.EndedAt
			if b.Running {
				end = time.Now()
			}
			tell(s.building, one(b.Running), i.Kind, name)
			tell(s.buildTook, max(end.Sub(b.StartedAt), 0).Seconds(), i.Kind, name)
		}
	}
	for k, n := range phases {
		tell(s.objects, float64(n), k[:]...)
	}
	for k, n := range conditions {
		tell(s.conditions, float64(n), k[:]...)
	}
}

func (s *state) collectSource(tell teller, source v1alpha1.SourceStatus) {
	tell(s.complete, one(source.Complete), source.Name)
	tell(s.declared, float64(source.Objects), source.Name)
	tell(s.held, float64(len(source.Held)), source.Name)
	git := source.Git
	if git == nil {
		return
	}
	tell(s.rejected, one(git.Rejected != ""), source.Name)
	if !git.Suspended {
		tell(s.failing, one(git.Error != ""), source.Name)
	}
	if git.Commit != "" {
		tell(s.commit, 1, source.Name, git.Commit)
	}
	if !git.SyncedAt.IsZero() && !git.Suspended {
		tell(s.synced, seconds(git.SyncedAt), source.Name)
	}
	if !git.CommittedAt.IsZero() {
		tell(s.specsSince, seconds(git.CommittedAt), source.Name)
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
