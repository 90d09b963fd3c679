package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tekton.host/pkg/resource"
)

const (
	// recipe counts changes of the table's text: a table of another recipe is
	// loaded anew, with its elements.
	recipe = "1"
	// throughMark is set on packets from machines that belong to a connection
	// that was let in (a published port) or out; policy routing lets it pass.
	throughMark = 0x10000000
	// dnsRate per second and machine; a resolver's burst is small.
	dnsRate = 200
	// maxComment is nft's limit for a comment.
	maxComment = 127
)

// about are the notes that the table carries on itself, in order, as comments
// of the elements 1.. of the set "about": what it was rendered from, so that a
// new daemon can tell without loading it again.
func about(t resource.Table) []string {
	ports := make([]string, len(t.IngressPorts))
	for i, p := range t.IngressPorts {
		ports[i] = strconv.Itoa(p)
	}
	return []string{
		"recipe=" + recipe,
		"subnet=" + t.Subnet.String(),
		"service=" + t.Service.String(),
		"dns=" + strconv.Itoa(t.DNSPort),
		"database=" + strconv.Itoa(t.DatabasePort),
		"ingress=" + strings.Join(ports, ","),
	}
}

// parseAbout is the inverse of about. digest is that of the loaded chains.
func parseAbout(notes []string) (t resource.Table, digest string, ok bool) {
	fields := map[string]string{}
	for _, n := range notes {
		k, v, _ := strings.Cut(n, "=")
		fields[k] = v
	}
	if fields["recipe"] != recipe {
		return resource.Table{}, "", false
	}
	number := func(s string) int {
		n, _ := strconv.Atoi(s)
		return n
	}
	t.Subnet, _ = netip.ParsePrefix(fields["subnet"])
	t.Service, _ = netip.ParseAddr(fields["service"])
	t.DNSPort, t.DatabasePort = number(fields["dns"]), number(fields["database"])
	for p := range strings.SplitSeq(fields["ingress"], ",") {
		if p != "" {
			t.IngressPorts = append(t.IngressPorts, number(p))
		}
	}
	return t, fields[digestKey], fields[digestKey] != ""
}

const digestKey = "chains"

// tableText is the whole table in nft's language: one transaction that replaces
// what is there, with the given elements.
func (d *Driver) tableText(t resource.Table, elements []element) string {
	name := d.naming.Table()
	var b strings.Builder
	// The first line makes the deletion succeed also when there is no table.
	fmt.Fprintf(&b, "table inet %s\ndelete table inet %s\ntable inet %s {\n", name, name, name)
	fmt.Fprintf(&b, "\tcomment %q\n", d.hostMark())
	d.writeConstants(&b, t)
	bySet := map[*setSpec][]element{}
	for _, e := range elements {
		bySet[e.Set] = append(bySet[e.Set], e)
	}
	for _, s := range elementSets() {
		b.WriteString(s.declaration(bySet[s]))
	}
	d.writeChains(&b, t)
	b.WriteString("}\n")
	return b.String()
}

// writeConstants declares the sets that the chains alone use.
func (d *Driver) writeConstants(b *strings.Builder, t resource.Table) {
	fmt.Fprintf(b, "\tset ours {\n\t\ttype devgroup\n\t\tcomment \"the interface group of our links\"\n\t\telements = { %d }\n\t}\n", d.group())
	ranges := make([]string, len(privateRanges))
	for i, p := range privateRanges {
		ranges[i] = p.String()
	}
	fmt.Fprintf(b, "\tset private {\n\t\ttype ipv4_addr\n\t\tflags interval\n\t\telements = { %s }\n\t}\n", strings.Join(ranges, ", "))
	if t.DNSPort != 0 {
		b.WriteString("\tset dns_rate {\n\t\ttype ipv4_addr\n\t\tsize 65535\n\t\tflags dynamic,timeout\n\t\ttimeout 10s\n\t}\n")
	}
	var notes []string
	for i, n := range about(t) {
		notes = append(notes, fmt.Sprintf("%d comment %q", i+1, n))
	}
	fmt.Fprintf(b, "\tset about {\n\t\ttype mark\n\t\telements = { %s }\n\t}\n", strings.Join(notes, ", "))
}

// writeChains renders the rules. A verdict "accept" only ends our own chain:
// tables of others are still asked. "drop" is final.
func (d *Driver) writeChains(b *strings.Builder, t resource.Table) {
	chain := func(name, hook string, rules ...string) {
		fmt.Fprintf(b, "\tchain %s {\n", name)
		if hook != "" {
			fmt.Fprintf(b, "\t\ttype %s; policy accept;\n", hook)
		}
		for _, r := range rules {
			fmt.Fprintf(b, "\t\t%s\n", r)
		}
		b.WriteString("\t}\n")
	}
	chain("sources", "filter hook prerouting priority raw",
		"iifgroup @ours meta nfproto ipv6 drop",
		"iifgroup @ours iifname . ip saddr != @bound drop",
		// Only we and machines speak from and to the subnet; what is published has another address here.
		fmt.Sprintf(`iifgroup != @ours iifname != "lo" ip saddr %s drop`, t.Subnet),
		fmt.Sprintf(`iifgroup != @ours iifname != "lo" ip daddr %s drop`, t.Subnet))
	chain("published", "nat hook prerouting priority dstnat", d.publishRules(t)...)
	chain("published_here", "nat hook output priority -100", d.publishRules(t)...)
	chain("through", "filter hook prerouting priority dstnat + 10",
		fmt.Sprintf("iifgroup @ours ct state established,related meta mark set meta mark | %#x", throughMark),
		fmt.Sprintf("iifgroup @ours ct status dnat meta mark set meta mark | %#x", throughMark))
	chain("to_host", "filter hook input priority filter - 10", d.inputRules(t)...)
	chain("across", "filter hook forward priority filter - 10",
		"iifgroup != @ours oifgroup != @ours accept",
		"ct state established,related accept",
		"iifgroup @ours jump from_machine",
		"ct status dnat accept",
		`drop comment "machines are reached through published ports only"`)
	chain("from_machine", "",
		"ct state invalid drop",
		"ip saddr . ip daddr . meta l4proto . th dport @links accept",
		"ct status dnat oifgroup @ours ip saddr @everywhere accept",
		"ct status dnat oifgroup @ours ct original ip daddr != @private ip saddr @internet accept",
		"oifgroup @ours drop",
		"ip saddr . ip daddr @allowed accept",
		"ip saddr . ip daddr . meta l4proto . th dport @allowed_port accept",
		"ip saddr @everywhere accept",
		"ip daddr @private drop",
		"ip saddr @internet accept",
		"drop")
	chain("leaving", "nat hook postrouting priority srcnat",
		`oifname . ip saddr @bound masquerade comment "a machine that calls its own published port"`,
		fmt.Sprintf(`ip saddr %s oifgroup != @ours oifname != "lo" masquerade`, t.Subnet))
}

func (d *Driver) publishRules(t resource.Table) []string {
	return []string{
		"meta l4proto { tcp, udp } dnat ip to ip daddr . meta l4proto . th dport map @publish",
		// Without route_localnet (never: it opens 127.0.0.1 to machines) loopback cannot be published.
		fmt.Sprintf("ip daddr != { 127.0.0.0/8, %s } fib daddr type local meta l4proto { tcp, udp } dnat ip to meta l4proto . th dport map @publish_any", t.Subnet),
	}
}

func (d *Driver) inputRules(t resource.Table) []string {
	rules := []string{"iifgroup != @ours accept", "ct state established,related accept"}
	if t.DNSPort != 0 {
		dns := fmt.Sprintf("ip daddr %s meta l4proto { tcp, udp } th dport %d ", t.Service, t.DNSPort)
		rules = append(rules,
			dns+fmt.Sprintf("update @dns_rate { ip saddr limit rate over %d/second burst %d packets } drop", dnsRate, 2*dnsRate),
			dns+"accept")
	}
	if t.DatabasePort != 0 {
		rules = append(rules, fmt.Sprintf("ip daddr %s tcp dport %d ip saddr @database accept", t.Service, t.DatabasePort))
	}
	if len(t.IngressPorts) > 0 {
		ports := slices.Compact(slices.Sorted(slices.Values(t.IngressPorts)))
		list := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(ports)), ", "), "[]")
		rules = append(rules,
			fmt.Sprintf("tcp dport { %s } ip saddr @internet accept", list),
			fmt.Sprintf("tcp dport { %s } ip saddr @everywhere accept", list))
	}
	return append(rules, "drop")
}
