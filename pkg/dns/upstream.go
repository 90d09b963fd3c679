package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// upstreamTimeout of one try with one upstream; clients wait 5 s.
	upstreamTimeout = 2 * time.Second
	hostResolvers   = "/etc/resolv.conf"
)

// upstreams are who is asked about names that are not ours.
type upstreams struct {
	file string // resolv.conf of the host

	mu    sync.Mutex
	stamp time.Time
	hosts []string // from file
}

// of returns what a zone configures, else the host's own resolvers. Never the
// address that we listen on: that would be asking ourselves.
func (u *upstreams) of(z zone) []string {
	list := z.Resolver.Upstreams
	if len(list) == 0 {
		list = u.host()
	}
	var addrs []string
	for _, s := range list {
		if a, err := upstreamAddr(s); err == nil && a != z.Resolver.Listen {
			addrs = append(addrs, a.String())
		}
	}
	return addrs
}

// host reads resolv.conf again when it has changed, and keeps the last good one.
func (u *upstreams) host() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	st, err := os.Stat(u.file)
	if err != nil || st.ModTime().Equal(u.stamp) {
		return u.hosts
	}
	c, err := dns.ClientConfigFromFile(u.file)
	if err != nil {
		return u.hosts
	}
	u.stamp, u.hosts = st.ModTime(), c.Servers
	return u.hosts
}

// upstreamAddr reads "1.1.1.1", "1.1.1.1:5353", "::1", "[::1]:53".
func upstreamAddr(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("upstream %q: must be an address such as 1.1.1.1 or 1.1.1.1:53", s)
	}
	return a, nil
}

var errNoUpstream = errors.New("no upstream answered")

// exchange asks one upstream after another, over TCP when the answer does not
// fit. An answer that says "broken" or "not for you" is the next one's turn.
func exchange(ctx context.Context, query *dns.Msg, servers []string) (*dns.Msg, error) {
	var last *dns.Msg
	for _, server := range servers {
		reply, err := ask(ctx, query, server, "udp")
		if err == nil && reply.Truncated {
			if whole, err := ask(ctx, query, server, "tcp"); err == nil {
				reply = whole
			}
		}
		if err != nil {
			continue
		}
		if last = reply; reply.Rcode != dns.RcodeServerFailure && reply.Rcode != dns.RcodeRefused {
			return reply, nil
		}
	}
	if last == nil {
		return nil, errNoUpstream
	}
	return last, nil
}

func ask(ctx context.Context, query *dns.Msg, server, network string) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
	defer cancel()
	client := &dns.Client{Net: network, Timeout: upstreamTimeout, Dialer: &net.Dialer{Timeout: upstreamTimeout}, UDPSize: dns.DefaultMsgSize}
	reply, _, err := client.ExchangeContext(ctx, query, server)
	return reply, err
}
