package reconcile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/plan"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/spec"
)

// areas are the conditions that steps speak for, in the order in which an
// object comes up: the first that is not True is why the object is not Ready.
var areas = []struct {
	condition string
	kinds     []resource.Kind
}{
	{v1alpha1.ConditionSpecValid, []resource.Kind{resource.KindClaim}},
	{v1alpha1.ConditionFetched, nil},
	{v1alpha1.ConditionConfigured, nil},
	{v1alpha1.ConditionBuilt, nil},
	{v1alpha1.ConditionSecretsReady, nil},
	{v1alpha1.ConditionDatabaseReady, []resource.Kind{resource.KindPassword, resource.KindRole, resource.KindDatabase, resource.KindAccess}},
	{v1alpha1.ConditionNetworkReady, []resource.Kind{resource.KindEndpoint, resource.KindException, resource.KindLink, resource.KindRecord}},
	{v1alpha1.ConditionStarted, []resource.Kind{resource.KindGCRoot, resource.KindVolume, resource.KindInstance, resource.KindUnit, resource.KindAttachment}},
	{v1alpha1.ConditionSetUp, []resource.Kind{resource.KindDump, resource.KindSetup}},
	{v1alpha1.ConditionAnswered, []resource.Kind{resource.KindAnswer}},
	{v1alpha1.ConditionRouteReady, []resource.Kind{resource.KindGate, resource.KindRoute}},
}

// conditions are one a relevant area, the extra facts, and Ready.
func (b *board) conditions(o compile.Compiled, w wanted, certificates []v1alpha1.CertificateStatus) []v1alpha1.Condition {
	cs := make([]v1alpha1.Condition, 1, 1+len(areas)) // the first is Ready
	for _, a := range areas {
		if o.RunsNoMachine() && a.condition != v1alpha1.ConditionSpecValid {
			continue
		}
		if c, relevant := b.area(o, w, a.condition, a.kinds); relevant {
			if c.Type == v1alpha1.ConditionRouteReady && c.Status == v1alpha1.ConditionTrue {
				c = b.certified(c, certificates)
			}
			explainFull(&c)
			cs = append(cs, c)
		}
	}
	cs[0] = b.ready(o, cs[1:])
	return append(cs, b.extras(o)...)
}

func (b *board) area(o compile.Compiled, w wanted, typ string, kinds []resource.Kind) (v1alpha1.Condition, bool) {
	cond := v1alpha1.Condition{Type: typ, Status: v1alpha1.ConditionTrue, Reason: "AsDesired"}
	uid := o.Record.UID
	if typ == v1alpha1.ConditionSpecValid {
		if ps := w.problemsOf(o.Record); len(ps) > 0 {
			cond.Status, cond.Reason, cond.Message = v1alpha1.ConditionFalse, ps[0].Reason, joinProblems(ps)
			return cond, true
		}
	}
	for _, n := range o.Notes {
		if n.Type == typ {
			cond.Status, cond.Reason, cond.Message, cond.NextRetry = n.Status, n.Reason, n.Message, n.NextRetry
			return cond, true
		}
	}
	for _, f := range b.failures[uid] {
		if slices.Contains(kinds, f.step.Resource.Kind) {
			cond.Status, cond.Reason, cond.Message, cond.NextRetry = v1alpha1.ConditionFalse, f.Reason, f.Message, f.RetryAt
			return cond, true
		}
	}
	if why := b.pending(uid, kinds); why != "" {
		cond.Status, cond.Reason, cond.Message = v1alpha1.ConditionFalse, "Progressing", why
		return cond, true
	}
	return b.settled(o, cond)
}

// pending says what is still to be done in an area: in a person's words while
// it is under way, and what it waits for otherwise.
func (b *board) pending(uid string, kinds []resource.Kind) string {
	for _, s := range b.steps[uid] {
		if slices.Contains(kinds, s.Resource.Kind) {
			return doing[s.Resource.Kind]
		}
	}
	for _, x := range b.blocked[uid] {
		switch {
		case !slices.Contains(kinds, x.Resource.Kind):
		case x.Why == plan.UnderWay:
			return doing[x.Resource.Kind]
		default:
			return fmt.Sprintf("%s: %s", x.Resource.ID, x.Why)
		}
	}
	return ""
}

// doing says what a step of a kind is for.
var doing = map[resource.Kind]string{
	resource.KindClaim:    "claiming name, address and routes",
	resource.KindPassword: "making the database", resource.KindRole: "making the database",
	resource.KindDatabase: "making the database", resource.KindAccess: "making the database",
	resource.KindEndpoint: "setting up the network", resource.KindException: "setting up the network",
	resource.KindLink: "setting up the network", resource.KindRecord: "setting up the network",
	resource.KindGCRoot: "preparing the machine", resource.KindVolume: "preparing the machine", resource.KindInstance: "preparing the machine",
	resource.KindUnit: "starting the machine", resource.KindAttachment: "connecting the machine",
	resource.KindSetup: "setting up", resource.KindDump: "dumping the database",
	resource.KindAnswer: "waiting for the machine's answer", resource.KindRoute: "changing the route", resource.KindGate: "changing the route",
}

// settled says what holds in an area where nothing is to be done.
func (b *board) settled(o compile.Compiled, cond v1alpha1.Condition) (v1alpha1.Condition, bool) {
	spec := o.Spec
	switch cond.Type {
	case v1alpha1.ConditionFetched:
		return cond, o.Fetches
	case v1alpha1.ConditionBuilt:
		return cond, o.Closure != ""
	case v1alpha1.ConditionConfigured:
		return cond, spec != nil && spec.Preview != nil && o.Target != nil
	case v1alpha1.ConditionSetUp:
		return cond, spec != nil && spec.Setup != nil
	case v1alpha1.ConditionSecretsReady:
		return cond, spec != nil && len(spec.Credentials) > 0
	case v1alpha1.ConditionDatabaseReady:
		return cond, spec != nil && len(spec.Databases) > 0
	case v1alpha1.ConditionRouteReady:
		if spec == nil || len(spec.Routes) == 0 {
			return cond, false
		}
		if o.Serving == nil {
			cond.Status, cond.Reason, cond.Message = v1alpha1.ConditionFalse, "WaitingForAnswer", "the route enters when the machine has answered"
			return cond, true
		}
		return cond, true
	case v1alpha1.ConditionStarted:
		return b.started(o, cond), true
	case v1alpha1.ConditionAnswered:
		return b.answered(o, cond), true
	}
	return cond, true
}

func (b *board) started(o compile.Compiled, cond v1alpha1.Condition) v1alpha1.Condition {
	if o.Target == nil {
		cond.Status, cond.Reason, cond.Message = v1alpha1.ConditionFalse, "NotStarted", "no machine was made yet"
		return cond
	}
	id := resource.ID{Kind: resource.KindUnit, Name: o.Target.Machine}
	r, present, known := b.facts.Observed.Get(id)
	switch {
	case o.Asleep:
		cond.Status, cond.Reason, cond.Message = v1alpha1.ConditionFalse, compile.ReasonAsleep, "nobody asks for it; the next request starts it"
	case !known:
		cond.Status, cond.Reason, cond.Message = v1alpha1.ConditionUnknown, "Unknown", b.unseen(id)
	case !present:
		cond.Status, cond.Reason, cond.Message = v1alpha1.ConditionFalse, "NotStarted", "the machine is started when its claims, network and data are there"
	case !r.Value.(resource.Unit).Running:
		cond.Status, cond.Reason, cond.Message = v1alpha1.ConditionFalse, "NotRunning", "the machine has ended; it is started again when what it needs is there"
	}
	return cond
}

// unseen says why a resource is not known, and what happens next.
func (b *board) unseen(id resource.ID) string {
	return fmt.Sprintf("cannot look at it (%v); it is left as it is and looked at again within %s", b.facts.Observed.Unknown(id), retryUnknown)
}

func (b *board) answered(o compile.Compiled, cond v1alpha1.Condition) v1alpha1.Condition {
	cond.Status, cond.Reason, cond.Message = v1alpha1.ConditionFalse, "NotAnswered", "the machine has not answered its probe yet"
	if o.Target == nil {
		return cond
	}
	if o.Asleep {
		cond.Reason, cond.Message = compile.ReasonAsleep, "it answers when the next request has started it"
		return cond
	}
	id := resource.ID{Kind: resource.KindAnswer, Name: o.Target.Machine}
	r, present, known := b.facts.Observed.Get(id)
	u, running := b.unit(o.Target.Machine)
	switch {
	case !known:
		cond.Status, cond.Reason, cond.Message = v1alpha1.ConditionUnknown, "Unknown", b.unseen(id)
	case present && running && u.Running && r.Value.(resource.Answer).Boot == u.Boot && r.Value.(resource.Answer).Setup != o.Setup.Run.Started:
		cond.Message = "its services were started anew, and have not answered yet"
	case present && running && u.Running && r.Value.(resource.Answer).Boot == u.Boot:
		cond.Status, cond.Reason, cond.Message = v1alpha1.ConditionTrue, "AsDesired", ""
		if a := r.Value.(resource.Answer); a.Failing != "" {
			cond.Status, cond.Reason, cond.Message = v1alpha1.ConditionFalse, "ProbeFailed", fmt.Sprintf("%s; it is asked again every %s", a.Failing, time.Duration(a.Probe.Interval))
		}
	}
	return cond
}

// ready is the first area that is not True.
func (b *board) ready(o compile.Compiled, cs []v1alpha1.Condition) v1alpha1.Condition {
	r := v1alpha1.Condition{Type: v1alpha1.ConditionReady, Status: v1alpha1.ConditionTrue, Reason: "Ready"}
	if o.Verdict == compile.Refused {
		r.Status, r.Reason, r.Message = v1alpha1.ConditionFalse, spec.ReasonSourcePolicy, o.Why
		return r
	}
	if o.Expired {
		r.Status, r.Reason, r.Message = v1alpha1.ConditionFalse, "Expired", fmt.Sprintf("its ttl of %s is over; it is stopped, and goes with its spec", o.Spec.TTL)
		return r
	}
	if o.Spec != nil && o.Spec.Disabled() {
		r.Status, r.Reason, r.Message = v1alpha1.ConditionFalse, "Disabled", cmp.Or(o.Spec.Reason, "enabled is false")
		return r
	}
	for _, n := range o.Notes {
		if n.Type == v1alpha1.ConditionReady {
			r.Status, r.Reason, r.Message = n.Status, n.Reason, n.Message
			return r
		}
	}
	for _, c := range cs {
		if c.Status == v1alpha1.ConditionTrue {
			continue
		}
		// A file that does not parse leaves its last good spec serving: said in SpecValid, not in Ready.
		if c.Type == v1alpha1.ConditionSpecValid && o.Verdict == compile.Held {
			continue
		}
		// A later setup leaves what runs as it is: what its probe says counts.
		if c.Type == v1alpha1.ConditionSetUp && o.SetUp {
			continue
		}
		// That it stops, and is stopped, is as it should be.
		if o.Asleep && (c.Reason == compile.ReasonAsleep || c.Reason == "Progressing") {
			continue
		}
		r.Status, r.Reason, r.Message, r.NextRetry = v1alpha1.ConditionFalse, c.Reason, c.Message, c.NextRetry
		return r
	}
	if o.Asleep {
		r.Reason, r.Message = compile.ReasonAsleep, fmt.Sprintf("nobody has asked for it for %s; the next request starts it, and waits", o.Spec.SleepAfter)
	}
	return r
}

// extras are facts beside the areas.
func (b *board) extras(o compile.Compiled) []v1alpha1.Condition {
	var cs []v1alpha1.Condition
	if o.Verdict == compile.Held {
		cs = append(cs, v1alpha1.Condition{Type: v1alpha1.ConditionHeld, Status: v1alpha1.ConditionTrue, Reason: "LastGoodStays", Message: o.Why})
	}
	for _, n := range o.Notes {
		if n.Type == v1alpha1.ConditionRolledBack || n.Type == v1alpha1.ConditionExpiring {
			cs = append(cs, v1alpha1.Condition{Type: n.Type, Status: n.Status, Reason: n.Reason, Message: n.Message})
		}
	}
	if why := b.weaker(o.Spec); why != "" {
		cs = append(cs, v1alpha1.Condition{Type: v1alpha1.ConditionHostServices, Status: v1alpha1.ConditionTrue, Reason: "WeakerPromises", Message: why})
	}
	if why := b.unenforced(o); why != "" {
		cs = append(cs, v1alpha1.Condition{Type: v1alpha1.ConditionLimitsEnforced, Status: v1alpha1.ConditionFalse, Reason: "NotEnforced", Message: why})
	}
	return cs
}

// weaker says what is promised less, because the host's own services are used; "" when nothing is.
func (b *board) weaker(s *v1alpha1.ContainerSpec) string {
	var whys []string
	if s != nil && len(s.Databases) > 0 && b.core.Host.Postgres.Mode == v1alpha1.ModeSystem {
		whys = append(whys, "databases: they are in the host's own PostgreSQL; a machine that has a database there and learns the password of another one's role reaches that one's too, as roles are not bound to addresses, and the host's other superusers see all")
	}
	if s != nil && len(s.Routes) > 0 && b.core.Host.Ingress.Mode == v1alpha1.ModeSystem {
		whys = append(whys, "routes: the host's own Caddy serves them; a Caddyfile of the host that is broken delays their changes, a site of the host with the same name comes first, and unknown names are the host's")
	}
	return strings.Join(whys, "; ")
}

// unenforced says which limits the host does not enforce, "" when all are.
func (b *board) unenforced(o compile.Compiled) string {
	if o.Target == nil {
		return ""
	}
	var whys []string
	if r, present, _ := b.facts.Observed.Get(resource.ID{Kind: resource.KindInstance, Name: o.Target.Machine}); present {
		whys = append(whys, r.Value.(resource.Instance).LimitsUnenforced)
	}
	for _, v := range o.Spec.Volumes {
		name := resource.VolumeName(o.Record.Kind, o.Record.Name, v.Name)
		if r, present, _ := b.facts.Observed.Get(resource.ID{Kind: resource.KindVolume, Name: name}); present {
			whys = append(whys, r.Value.(resource.Volume).Enforced)
		}
	}
	whys = slices.DeleteFunc(whys, func(s string) bool { return s == "" })
	return strings.Join(whys, "; ")
}
