package reconcile

import (
	"fmt"
	"slices"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/resource"
)

// renewedBy is how long before its end a certificate has a successor: Caddy
// renews in the last third, an authority's 90 days leave 30 for that.
const renewedBy = 14 * 24 * time.Hour

// certificates are those of an object's hosts, in the order of its routes.
func (b *board) certificates(o compile.Compiled) []v1alpha1.CertificateStatus {
	if o.Spec == nil {
		return nil
	}
	var out []v1alpha1.CertificateStatus
	for _, r := range o.Spec.Routes {
		if mode := resource.TLSMode(r.TLS); mode != resource.TLSACME && mode != resource.TLSFiles {
			continue
		}
		name := resource.RouteName(r.Host, r.Path, r.PathType == "Exact")
		found, present, _ := b.facts.Observed.Get(resource.ID{Kind: resource.KindRoute, Name: name})
		if !present || found.Owner != o.Record.UID || slices.ContainsFunc(out, func(c v1alpha1.CertificateStatus) bool { return c.Host == r.Host }) {
			continue
		}
		if c := found.Value.(resource.Route).Certificate; c.Missing || !c.NotAfter.IsZero() {
			out = append(out, v1alpha1.CertificateStatus{Host: r.Host, NotAfter: c.NotAfter, Message: c.Message})
		}
	}
	return out
}

// certified says of routes that are served how their certificates stand.
func (b *board) certified(cond v1alpha1.Condition, certificates []v1alpha1.CertificateStatus) v1alpha1.Condition {
	now := b.facts.Now
	for _, c := range certificates {
		switch {
		case c.NotAfter.IsZero() && c.Message == "":
			cond.Status, cond.Reason = v1alpha1.ConditionFalse, "CertificatePending"
			cond.Message = fmt.Sprintf("the authority is asked for a certificate of %s", c.Host)
			return cond
		case c.NotAfter.IsZero():
			cond.Status, cond.Reason = v1alpha1.ConditionFalse, "CertificateRefused"
			cond.Message = fmt.Sprintf("no certificate of %s: %s; it is asked for again by itself. The name has to lead to this host, and the authority has to reach its ports %d or %d there",
				c.Host, c.Message, b.core.Host.Ingress.HTTPPort, *b.core.Host.Ingress.HTTPSPort)
			return cond
		case !c.NotAfter.After(now):
			cond.Status, cond.Reason = v1alpha1.ConditionFalse, "CertificateExpired"
			cond.Message = fmt.Sprintf("the certificate of %s has expired; renew its files, or see why Caddy does not get another one: its log is in services/caddy below the state directory", c.Host)
			return cond
		case c.NotAfter.Before(now.Add(renewedBy)):
			cond.Reason, cond.Message = "CertificateExpires", fmt.Sprintf("the certificate of %s is to be renewed: it expires within %d days", c.Host, int(c.NotAfter.Sub(now).Hours()/24)+1)
		}
	}
	return cond
}
