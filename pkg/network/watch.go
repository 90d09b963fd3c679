package network

import (
	"context"
	"errors"
	"fmt"

	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// watched are the multicast groups that tell of changes. Neighbours are left
// out: the entries of others change all the time.
var watched = map[int][]uint32{
	unix.NETLINK_ROUTE:     {unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE},
	unix.NETLINK_NETFILTER: {unix.NFNLGRP_NFTABLES},
}

// Watch implements resource.Driver. It blocks in the kernel: without changes
// nothing wakes up.
func (d *Driver) Watch(ctx context.Context, notify func()) error {
	g, ctx := errgroup.WithContext(ctx)
	for family, groups := range watched {
		c, err := subscribe(family, groups)
		if err != nil {
			g.Go(func() error { return err })
			break
		}
		stop := context.AfterFunc(ctx, func() { c.Close() })
		g.Go(func() error {
			defer stop()
			return listen(ctx, c, notify)
		})
	}
	return g.Wait()
}

func subscribe(family int, groups []uint32) (*mdnetlink.Conn, error) {
	c, err := mdnetlink.Dial(family, nil)
	if err != nil {
		return nil, fmt.Errorf("watch the network: %w", err)
	}
	for _, g := range groups {
		if err := c.JoinGroup(g); err != nil {
			return nil, errors.Join(fmt.Errorf("watch the network: join netlink group %d: %w", g, err), c.Close())
		}
	}
	return c, nil
}

func listen(ctx context.Context, c *mdnetlink.Conn, notify func()) error {
	defer c.Close()
	for {
		_, err := c.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil, errors.Is(err, unix.ENOBUFS): // events were lost: all the more reason to look
			notify()
		default:
			return fmt.Errorf("watch the network: %w", err)
		}
	}
}
