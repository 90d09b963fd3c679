package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"tekton.host/pkg/machine/nixos"
	"tekton.host/pkg/resource"
)

// answersFile holds an answerFile in a machine's directory.
const answersFile = "answer.json"

const (
	// firstPause between two tries of a first probe; it doubles up to lastPause.
	firstPause = 10 * time.Millisecond
	lastPause  = time.Second
	// unprobed is how long a machine without a probe must have run to count as one
	// that answers: by then a command has ended that is not there, or fails at once.
	unprobed = 300 * time.Millisecond
	// routedPatience is how long the first answer waits for the services beside, so
	// that Ready means all of them. Who does not listen by then is told by later probes.
	routedPatience = 5 * time.Second
	// defaultDeadline of a probe without one.
	defaultDeadline = time.Minute
)

// answerFile is the fact that a start has answered.
type answerFile struct {
	Mark   string          `json:"mark"`
	Answer resource.Answer `json:"answer"`
	Since  time.Time       `json:"since"`
}

func (d *Driver) answerPath(machine string) string {
	return filepath.Join(d.dir(machine), answersFile)
}

// putAnswer probes until the first success and records it.
func (d *Driver) putAnswer(ctx context.Context, r resource.Resource, v resource.Answer) error {
	if _, found, err := d.ownRecord(r.Name, r.Owner); err != nil {
		return err
	} else if !found {
		return resource.ErrStale
	}
	deadline := time.Duration(v.Probe.Deadline)
	if deadline == 0 {
		deadline = defaultDeadline
	}
	probing, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	began, pause := time.Now(), firstPause
	var answered time.Time
	for {
		up, err := d.stillRuns(r.Name, v.Boot)
		if err != nil {
			return err
		}
		failure := errBooting
		if up {
			failure = probe(probing, v, dialTimeout(pause, v.Probe))
		}
		if failure == nil && answered.IsZero() {
			answered, pause = time.Now(), firstPause
		}
		if failure == nil && time.Since(answered) < routedPatience {
			failure = listening(probing, v, dialTimeout(pause, v.Probe))
		}
		if failure == nil && v.Probe.Port == 0 && time.Since(began) < unprobed {
			failure = errNew
		}
		if failure == nil {
			return d.recordAnswer(r, v)
		}
		select {
		case <-probing.Done():
			if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return ctx.Err()
			}
			return resource.Because(resource.ReasonProbeFailed, fmt.Errorf("%s did not answer within %s: %w", r.Name, deadline, failure))
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

var errBooting = errors.New("it has not said yet that it is up (systemd-nspawn --notify-ready)")

var errNew = errors.New("it was started just now")

// stillRuns checks that the start that is to answer is the one that runs. up is
// false while a container boots: then nothing that answers counts.
func (d *Driver) stillRuns(machine, boot string) (up bool, err error) {
	s, found, err := d.Status(machine)
	switch {
	case err != nil:
		return false, err
	case !found || s.Boot != boot:
		return false, resource.ErrStale
	case !s.Running:
		return false, resource.Because(resource.ReasonProbeFailed, fmt.Errorf("%s ended with code %d before it answered", machine, s.ExitCode))
	}
	return s.Ready || !nixos.Has(d.dir(machine)), nil
}

// recordAnswer is atomic and not synced: after a power cut the machine has to
// start and answer again anyway.
func (d *Driver) recordAnswer(r resource.Resource, v resource.Answer) error {
	v.Failing = ""
	b, err := json.Marshal(answerFile{Mark: d.mark(r.Owner), Answer: v, Since: time.Now().UTC()})
	if err != nil {
		return err
	}
	path := d.answerPath(r.Name)
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (d *Driver) deleteAnswer(r resource.Resource) error {
	a, found, err := readJSON[answerFile](d.answerPath(r.Name))
	if err != nil || !found {
		return err
	}
	if a.Mark != d.mark(r.Owner) {
		return conflict("answer of "+r.Name, a.Mark)
	}
	if err := os.Remove(d.answerPath(r.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
