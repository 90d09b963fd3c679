package network

import "testing"

// nixosRules are a host's own as services.tekton makes them on NixOS with
// nftables: a reverse path filter, nothing accepted but what is named, also of
// what is forwarded, and the static table beside it. Port 22 is open to all.
const nixosRules = `
table inet nixos-fw {
	chain rpfilter {
		type filter hook prerouting priority mangle + 10; policy drop;
		fib saddr . mark . iif oif exists accept
	}
	chain input {
		type filter hook input priority filter; policy drop;
		iifname "lo" accept
		ct state established,related accept
		tcp dport { 22, 80, 443 } accept
		iifname tkt* tcp dport { 53, 5432, 80, 443 } accept
		iifname tkt* udp dport 53 accept
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		ct status dnat accept
		iifname "tkt*" accept
		oifname "tkt*" accept
	}
}
table inet tekton-static {
	chain input {
		type filter hook input priority filter - 20; policy accept;
		iifname != "tkt*" accept
		meta nfproto ipv6 drop
		ct state established,related accept
		tcp dport { 53, 5432, 80, 443 } accept
		udp dport 53 accept
		drop
	}
	chain forward {
		type filter hook forward priority filter - 20; policy accept;
		iifname "tkt*" meta nfproto ipv6 drop
		iifname "tkt*" ip daddr { 203.0.113.99 } drop
	}
}
`

// TestBehindNixOSFirewall: what tekton allows passes the host's own firewall,
// and what only tekton's table forbids stays closed when that is gone.
func TestBehindNixOSFirewall(t *testing.T) {
	w := newTown(t)
	run(t, "sh", "-c", "nft -f - <<'EOF'\n"+nixosRules+"EOF\n")
	t.Cleanup(func() { run(t, "nft", "delete table inet nixos-fw; delete table inet tekton-static") })
	open := append([]string{
		"a " + hostLAN + ":80", "x " + hostPublic + ":80", // the ingress
		"lan " + hostLAN + ":8080", "host " + hostPublic + ":8080", "x " + hostLAN + ":8081", // published
		"lan " + hostLAN + ":22",
	}, alwaysOpen...)
	closed := append([]string{"n " + internet + ":80", "a " + service + ":5432", "a " + hostLAN + ":22", "lan a:80"}, alwaysClosed...)
	w.reach("with both tables", open, closed)

	run(t, "nft", "delete table inet "+w.naming.Table())
	w.reach("without tekton's own", alwaysOpen, append([]string{"a " + hostLAN + ":22", "a " + service + ":22", "e " + hostLAN + ":22"}, alwaysClosed...))
}
