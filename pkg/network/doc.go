// Package network is the driver of what a host needs so that machines have an
// address and nothing that they were not given: kinds sysctl, address, table,
// policy, endpoint, exception, link and attachment.
//
// Isolation has two layers that do not know of each other. The first is one nft
// table: static chains, and sets that hold what each machine may do. The second
// is policy routing: what machines send is looked up in a table of our own that
// blackholes private networks. A flushed ruleset opens neither the host's
// networks nor other machines.
//
// Names of resources: a sysctl's key; an address, as text; Naming.Table() for
// the table; "policy" for the policy; the link's name for
// endpoint, link and attachment; resource.ExceptionName for an exception.
//
// Invariants:
//   - A machine's packets are known by the interface group of its link, which
//     is set in the message that creates it, never by a pattern of names: a
//     foreign link whose name looks like ours is not touched and not filtered.
//     What the sets do not list is dropped.
//   - Every fact is read back from the kernel, also who owns it (alias of a
//     link, comment of an element). Nothing is remembered but a copy of the nft
//     sets, valid for one nft generation id.
//   - A thing is observed with the value that it fully has: one missing fact
//     (an address, a neighbour, an ip rule) makes the value differ, and a Put
//     repairs it in place.
//   - A converged pass changes nothing and starts no process. Processes (nft)
//     run only to load the static part of the table.
//   - Links are made by one goroutine at a time: the kernel has one lock for them.
package network
