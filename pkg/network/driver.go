package network

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/go-logr/logr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
)

// Options of New.
type Options struct {
	Naming       resource.Naming // required
	Installation string          // required: the id in our marks

	// RecordSysctl makes a setting's original value durable; it is called
	// before the first change. A key that has a record keeps it.
	RecordSysctl func(key, original string) error // required
	// Originals returns what was recorded. Only recorded settings are observed.
	// Absent: what this process recorded.
	Originals func() map[string]string // optional

	Log logr.Logger // optional
}

// Driver is the resource.Driver of links, addresses and both isolation layers.
type Driver struct {
	naming       resource.Naming
	installation string
	recordSysctl func(key, original string) error
	originals    func() map[string]string
	log          logr.Logger

	rules *ruleset
	rt    *netlink.Handle

	// apply serialises changes: the kernel has one lock for links, and a
	// transaction is computed against what it will meet.
	apply sync.Mutex

	settings settings
	allowed  allowed
}

var _ resource.Driver = (*Driver)(nil)

// New returns the driver of the network namespace that it is called in.
func New(o Options) (*Driver, error) {
	if o.Installation == "" || !o.Naming.Subnet.IsValid() || o.RecordSysctl == nil {
		return nil, errors.New("network: Naming.Subnet, Installation and RecordSysctl are required")
	}
	rt, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open the route netlink socket: %w", err)
	}
	rules, err := newRuleset(o.Naming.Table())
	if err != nil {
		rt.Close()
		return nil, err
	}
	d := &Driver{
		naming: o.Naming, installation: o.Installation, recordSysctl: o.RecordSysctl, originals: o.Originals,
		log: o.Log, rules: rules, rt: rt,
	}
	if d.log.GetSink() == nil {
		d.log = logr.Discard()
	}
	// The kernel takes the larger one of this and a link's own. Others depend on
	// it, so that it is theirs to change.
	if v, err := readSysctl(looseCheck); err == nil && v == "2" {
		d.log.Info("machines can forge source addresses whenever nft has no rules of ours, until they are repaired: set it to 0 or 1", "setting", looseCheck, "value", v)
	}
	return d, nil
}

// looseCheck is the setting that, at 2, weakens the links' strict check of sources.
const looseCheck = "net.ipv4.conf.all.rp_filter"

// Close closes the driver's sockets. What it made stays.
func (d *Driver) Close() error {
	d.rt.Close()
	return d.rules.close()
}

// Name implements resource.Driver.
func (d *Driver) Name() string { return "network" }

// Kinds implements resource.Driver.
func (d *Driver) Kinds() []resource.Kind {
	return []resource.Kind{
		resource.KindSysctl, resource.KindAddress, resource.KindTable, resource.KindPolicy,
		resource.KindEndpoint, resource.KindException, resource.KindLink, resource.KindAttachment,
	}
}

// group is the interface group of our links. Like our routing table's number it
// is a hash of the instance.
func (d *Driver) group() int { return d.naming.RoutingTable() }

func (d *Driver) mark(owner string) resource.Mark {
	return resource.Mark{Installation: d.installation, Owner: owner}
}

func (d *Driver) hostMark() string { return d.mark(resource.HostOwner).String() }

// Apply implements resource.Driver. Whatever the order of the steps, rules are
// there before links and go after them; endpoints and exceptions share one
// transaction.
func (d *Driver) Apply(ctx context.Context, steps []resource.Step) []error {
	d.apply.Lock()
	defer d.apply.Unlock()
	errs := make([]error, len(steps))
	var ranks [rankLast + 1][]int
	for i, s := range steps {
		ranks[rank(s)] = append(ranks[rank(s)], i)
	}
	for r, indexes := range ranks {
		if r == rankPutElements || r == rankDeleteElements {
			d.applyElements(ctx, steps, indexes, errs)
			continue
		}
		for _, i := range indexes {
			if errs[i] = ctx.Err(); errs[i] == nil {
				errs[i] = d.applyOne(ctx, steps[i])
			}
		}
	}
	return errs
}

// The order of steps within one Apply.
const (
	rankPutHost = iota
	rankPutElements
	rankDeleteLink
	rankPutLink
	rankPutAttachment
	rankDeleteElements
	rankDeleteHost
	rankLast = rankDeleteHost
)

func rank(s resource.Step) int {
	pick := func(put, del int) int {
		if s.Verb == resource.Put {
			return put
		}
		return del
	}
	switch s.Resource.Kind {
	case resource.KindEndpoint, resource.KindException:
		return pick(rankPutElements, rankDeleteElements)
	case resource.KindLink:
		return pick(rankPutLink, rankDeleteLink)
	case resource.KindAttachment:
		return pick(rankPutAttachment, rankDeleteLink)
	default:
		return pick(rankPutHost, rankDeleteHost)
	}
}

func (d *Driver) applyOne(ctx context.Context, s resource.Step) error {
	put := s.Verb == resource.Put
	switch v := s.Resource.Value.(type) {
	case resource.Sysctl:
		if put {
			return d.putSysctl(v)
		}
		return d.restoreSysctl(v)
	case resource.Address:
		if put {
			return d.putAddress(v)
		}
		return d.deleteAddress(v)
	case resource.Table:
		if put {
			return d.putTable(ctx, v)
		}
		return d.deleteTable()
	case resource.Policy:
		if put {
			return d.putPolicy(v)
		}
		return d.deletePolicy()
	case resource.Link:
		if put {
			return d.putLink(v, s.Resource.Owner)
		}
		return d.removeLink(s.Resource)
	case resource.Attachment:
		if put {
			return d.putAttachment(ctx, v, s.Resource.Owner)
		}
		return d.removeLink(s.Resource)
	}
	return fmt.Errorf("%s: the network driver does not know values of type %T", s, s.Resource.Value)
}
