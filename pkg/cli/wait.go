package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/why"
)

// reconnectPause between two tries to reach a daemon that was there before.
const reconnectPause = 200 * time.Millisecond

// target is what to wait for.
type target struct {
	ref v1alpha1.Ref
	// generation that the status must have seen; 0: that of the spec.
	generation int64
	// done judges the object; nil is one that is not there. An error ends the wait.
	done func(*v1alpha1.Item) (bool, error)
}

func (a *app) waitCommand() *cobra.Command {
	var what, selector string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:               "wait --for=condition=TYPE[=STATUS]|delete NAME...",
		Short:             "Wait until objects are in a state",
		Long:              "Wait until objects are in a state. An object that is not there yet is waited for too.",
		Example:           "  tekton wait --for=condition=Ready web --timeout=2m\n  tekton wait --for=delete container/web",
		ValidArgsFunction: a.completeRefs,
	}
	cmd.Flags().StringVar(&what, "for", "", "condition=TYPE, condition=TYPE=STATUS or delete")
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "wait for the objects that have these labels now")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultWait, "how long to wait")
	cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions([]string{"condition=Ready", "delete"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		done, err := parseFor(what)
		if err != nil {
			return err
		}
		refs, err := a.waitRefs(cmd.Context(), args, selector)
		if err != nil {
			return err
		}
		var targets []target
		for _, r := range refs {
			targets = append(targets, target{ref: r, done: done})
		}
		return a.await(cmd.Context(), timeout, targets)
	}
	return cmd
}

func (a *app) waitRefs(ctx context.Context, args []string, selector string) ([]v1alpha1.Ref, error) {
	refs, err := parseRefs(args)
	if err != nil {
		return nil, err
	}
	named := func(r v1alpha1.Ref) bool { return r.Name != "" }
	if len(refs) > 0 && selector == "" && !slices.ContainsFunc(refs, func(r v1alpha1.Ref) bool { return !named(r) }) {
		return refs, nil
	}
	if len(refs) == 0 && selector == "" {
		return nil, usage("wait needs names or a selector")
	}
	s, err := parseSelection(args, selector)
	if err != nil {
		return nil, err
	}
	items, err := a.objects(ctx, s)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, notFound("tekton get lists what there is", "no object is selected")
	}
	refs = nil
	for _, item := range items {
		refs = append(refs, refOf(item))
	}
	return refs, nil
}

func parseFor(what string) (func(*v1alpha1.Item) (bool, error), error) {
	if what == "delete" {
		return gone(""), nil
	}
	rest, ok := strings.CutPrefix(what, "condition=")
	kind, status, has := strings.Cut(rest, "=")
	if !has {
		status = string(v1alpha1.ConditionTrue)
	}
	if !ok || kind == "" || status == "" {
		return nil, usage("wait needs --for=condition=TYPE[=STATUS] or --for=delete, not %q", what)
	}
	return func(item *v1alpha1.Item) (bool, error) {
		if item == nil {
			return false, nil
		}
		c := why.Condition(*item, kind)
		return c != nil && strings.EqualFold(string(c.Status), status), nil
	}, nil
}

// gone judges whether the object, or that of a UID, is not there any more.
func gone(uid string) func(*v1alpha1.Item) (bool, error) {
	return func(item *v1alpha1.Item) (bool, error) {
		return item == nil || (uid != "" && item.Metadata.UID != uid), nil
	}
}

// await waits for all targets, also over a restart of the daemon.
func (a *app) await(ctx context.Context, timeout time.Duration, targets []target) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	w := &waiter{app: a, teller: teller{err: a.err}, pending: targets, told: map[v1alpha1.Ref]string{}}
	defer w.telling(ctx, w.underWay)()
	for len(w.pending) > 0 {
		err := w.follow(ctx)
		_, unreachable := errors.AsType[*client.UnreachableError](err)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return w.late(timeout)
		case err != nil && (!unreachable || w.items == nil):
			return err
		case err != nil:
			select {
			case <-ctx.Done():
			case <-time.After(reconnectPause):
			}
		}
	}
	return nil
}

type waiter struct {
	*app
	teller
	pending []target
	items   map[v1alpha1.Ref]*v1alpha1.Item // nil until the daemon was reached once
	told    map[v1alpha1.Ref]string
}

// follow watches until nothing is pending or the watch ends.
func (w *waiter) follow(ctx context.Context) error {
	items := map[v1alpha1.Ref]*v1alpha1.Item{}
	synced := false
	for e, err := range w.client.Watch(ctx) {
		if err != nil {
			return err
		}
		synced = synced || e.Type == v1alpha1.WatchSynced
		if err := w.take(e, items, synced); err != nil || len(w.pending) == 0 {
			return err
		}
	}
	return nil
}

// take takes an event in, and judges once all that is there is known.
func (w *waiter) take(e v1alpha1.WatchEvent, items map[v1alpha1.Ref]*v1alpha1.Item, synced bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e.Type {
	case v1alpha1.WatchPut:
		items[refOf(*e.Item)] = e.Item
	case v1alpha1.WatchDelete:
		delete(items, refOf(*e.Item))
	}
	if !synced {
		return nil
	}
	w.items = items
	return w.judge()
}

func (w *waiter) judge() error {
	var left []target
	for _, t := range w.pending {
		item := w.find(t.ref)
		done := false
		if item == nil || item.Status.ObservedGeneration >= max(t.generation, item.Metadata.Generation) {
			var err error
			if done, err = t.done(item); err != nil {
				return err
			}
		}
		w.progress(t, item, done)
		if !done {
			left = append(left, t)
		}
	}
	w.pending = left
	return nil
}

func (w *waiter) find(ref v1alpha1.Ref) *v1alpha1.Item {
	if ref.Kind != "" {
		return w.items[ref]
	}
	for _, item := range w.items {
		if matches(ref, *item) {
			return item
		}
	}
	return nil
}

// progress says each new state once.
func (w *waiter) progress(t target, item *v1alpha1.Item, done bool) {
	text := "is not there"
	if item == nil && w.told[t.ref] != "" && done {
		text = "is gone"
	}
	if item != nil {
		text = phaseText(*item)
		if done && item.Status.Phase == v1alpha1.PhaseReady {
			text = string(v1alpha1.PhaseReady)
		}
	}
	if w.told[t.ref] == text {
		return
	}
	w.told[t.ref] = text
	w.clear()
	fmt.Fprintf(w.app.err, "%s %s\n", terminal.Escape(refText(t.ref)), terminal.Escape(text))
}

func refText(r v1alpha1.Ref) string {
	if r.Kind == "" {
		return r.Name
	}
	return r.String()
}

// phaseText is the phase and why it is no better one, without saying a word twice.
func phaseText(item v1alpha1.Item) string {
	c := why.Cause(item)
	if c != nil && c.Reason == string(item.Status.Phase) {
		return joined(": ", c.Reason, c.Message)
	}
	return joined(": ", string(item.Status.Phase), causeText(item))
}

// causeText is reason and message of what keeps an object from being Ready.
func causeText(item v1alpha1.Item) string {
	c := why.Cause(item)
	if c == nil || c.Good() {
		return ""
	}
	return joined(": ", c.Reason, c.Message)
}

// late explains what did not come in time.
func (w *waiter) late(timeout time.Duration) error {
	var lines []string
	code, next := exitNotFound, "tekton get lists what there is"
	for _, t := range w.pending {
		item := w.find(t.ref)
		if item == nil {
			lines = append(lines, refText(t.ref)+" is not there")
			continue
		}
		lines = append(lines, fmt.Sprintf("%s is %s", refOf(*item), phaseText(*item)))
		code, next = exitTimeout, why.Next(*item, w.now())
	}
	if w.items == nil {
		code, next, lines = exitTimeout, "", []string{"the daemon has not answered"}
	}
	return &exit{code: code, err: fmt.Errorf("waited %s: %s", timeout, strings.Join(lines, "; ")), next: next}
}
