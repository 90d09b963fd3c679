package doctor

import (
	"fmt"
	"strings"
)

// NetworkdDropIn keeps systemd-networkd from removing what is not its own. It is
// the file that make install puts below its prefix.
const NetworkdDropIn = `# systemd-networkd removes rules and routes that are not its own, by default:
# tekton's, which keep machines from private networks, were gone then.
[Network]
ManageForeignRoutingPolicyRules=no
ManageForeignRoutes=no
`

const networkdFile = "/etc/systemd/networkd.conf.d/tekton.conf"

func (j *judge) network() {
	n := j.f.Network
	switch {
	case n.Unseen != "":
		j.unseen("clashes", n.Unseen)
	case n.Clash != "":
		j.add(Finding{Check: "clashes", Level: Error, Says: n.Clash, Where: "ip addr; ip route; ip rule; nft list tables", Fix: "remove what is in the way, or choose another spec.subnet or spec.instance in the Host"})
	default:
		j.ok("clashes", "subnet %s, links %s… and the nft table are nobody else's", j.f.Host.Subnet, "tk"+j.f.Host.Instance)
	}
	j.networkd()
	if j.f.Host.DNS.Mode == "none" {
		return
	}
	if len(j.f.Names) == 0 {
		j.add(Finding{Check: "names", Level: Warning, Says: "the host has no resolver: machines resolve names of machines only", Where: "/etc/resolv.conf", Fix: "name one there, or spec.dns.upstreams of the Host"})
	}
	for _, r := range j.f.Names {
		if r.Err == "" {
			j.ok("names", "%s answers", r.Addr)
			continue
		}
		j.add(Finding{Check: "names", Level: Warning, Says: fmt.Sprintf("resolver %s does not answer: %s", r.Addr, r.Err), Where: "/etc/resolv.conf, spec.dns.upstreams", Fix: "machines ask the others after a delay: mend or remove it"})
	}
}

func (j *judge) networkd() {
	n := j.f.Network
	switch {
	case !n.Networkd:
		j.ok("routing policy", "systemd-networkd does not run")
	case n.NetworkdUnknown != "":
		j.unseen("routing policy", n.NetworkdUnknown)
	case !n.NetworkdRules && !n.NetworkdRoutes:
		j.ok("routing policy", "systemd-networkd leaves foreign rules and routes alone")
	default:
		f := Finding{
			Check: "routing policy", Level: Error, Where: "networkd.conf",
			Says:    "systemd-networkd removes rules and routes that are not its own, among them those that keep machines from private networks",
			Fix:     "tekton doctor --fix writes " + networkdFile + "; then: systemctl restart systemd-networkd",
			Changes: []Change{{Kind: WriteFile, Path: networkdFile, Mode: 0o644, Text: NetworkdDropIn}},
		}
		if j.f.NixOS {
			f.Fix, f.Changes = "services.tekton.enable sets systemd.network.config.networkConfig.ManageForeignRoutingPolicyRules", nil
		}
		j.add(f)
	}
}

// firewall is what a throw-away machine has found.
func (j *judge) firewall() {
	if j.f.TrialLeft != "" {
		j.add(Finding{
			Check: "throw-away machine", Level: Warning, Says: "a doctor that was killed has left one", Where: j.f.TrialLeft,
			Fix: "tekton doctor --fix, or the next tekton doctor --deep, removes it", Changes: []Change{{Kind: RemoveTrial, Path: j.f.TrialLeft}},
		})
	}
	t := j.f.Trial
	switch {
	case t == nil:
		j.add(Finding{Check: "from inside", Level: Unknown, Says: "whether this host's own firewall drops what tekton's accepts was not tried", Fix: "tekton doctor --deep starts a throw-away machine and tries"})
		return
	case t.Err != "":
		j.add(Finding{Check: "from inside", Level: Error, Says: "a throw-away machine did not run: " + t.Err, Fix: "the other findings may say why; tektond says more with -v 1"})
		return
	}
	for _, f := range t.Flows {
		switch {
		case f.Unseen != "":
			j.unseen(f.Name, f.Unseen)
		case f.Err == "":
			j.ok(f.Name, "yes")
		default:
			where := f.By
			if where == "" {
				where = "nft list ruleset; iptables-legacy-save"
			}
			j.add(Finding{
				Check: f.Name, Level: Error, Says: "no: " + f.Err, Where: where,
				Fix: fmt.Sprintf("let it through there: links of machines are named %s (this one %s, in %s)", "tk"+j.f.Host.Instance+"*", t.Link, t.Subnet),
			})
		}
	}
}

func (j *judge) ports() {
	for _, p := range j.f.Ports {
		switch {
		case p.Err != "":
			j.unseen(p.Name, p.Err)
		case p.User != "":
			j.add(Finding{Check: p.Name, Level: Error, Says: fmt.Sprintf("%s is used by %s", p.Addr, p.User), Where: "ss -lntup", Fix: "stop it, or choose another port: " + p.Field + " of the Host"})
		default:
			j.ok(p.Name, "%s is free or ours", p.Addr)
		}
	}
}

func (j *judge) configuration() {
	where := j.f.Config
	switch {
	case len(j.f.Problems) > 0:
		j.add(Finding{Check: "Host", Level: Error, Says: strings.Join(j.f.Problems, "; "), Where: where, Fix: "tekton validate " + where})
	case where == "":
		j.ok("Host", "no file: every field has its default")
	default:
		j.ok("Host", "%s", where)
	}
}
