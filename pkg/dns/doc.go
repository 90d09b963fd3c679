// Package dns gives machines a resolver: a process of its own, which outlives
// the daemon, and the driver that tells it what to answer.
//
// Invariants:
//   - The driver and the server share one file, DIR/zone.json, replaced as a
//     whole. The server keeps its last good zone when it cannot read a new one.
//   - A name of ours exists only for those who may use it: the machine itself
//     and the clients of its record, told apart by source address (which the
//     network driver makes unforgeable). For all others it does not exist.
//   - No name below our domain and no address of our subnet is ever asked of
//     anybody outside.
//   - A machine without egress gets no answer for names outside: DNS would be a way out.
//   - What one client does costs the others nothing: queries a second, open
//     forwards and connections are bounded for each source, forwards for all.
//   - The host's own resolver files are only read, to find upstreams. With
//     Resolver.Resolved a drop-in of ours, for this boot, has systemd-resolved
//     ask us for our domain; for nothing else, as it gets no answers to that.
package dns
