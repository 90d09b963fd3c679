package dns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

const (
	serviceName = "dns"
	stopTimeout = 5 * time.Second
	logMax      = 1 << 20
	retrySoon   = 200 * time.Millisecond
)

// validLabel is a DNS label.
var validLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Options of New.
type Options struct {
	Layout       host.Layout        // required
	Naming       resource.Naming    // required
	Installation string             // required
	Supervisor   *supervise.Manager // required
	Program      string             // required: absolute path of tektond
	DropIns      string             // optional: where systemd-resolved's drop-ins of this boot are
	Log          logr.Logger        // optional
}

// Driver manages the kinds resolver and record, in batches.
type Driver struct {
	opts Options
	dir  string
	mu   sync.Mutex // held over each change of the zone
}

var _ resource.Driver = (*Driver)(nil)

// New returns the driver. It touches nothing on the host.
func New(o Options) (*Driver, error) {
	if o.Supervisor == nil || o.Installation == "" || o.Layout.State == "" || !filepath.IsAbs(o.Program) {
		return nil, errors.New("dns driver: Layout, Installation, Supervisor and an absolute Program are required")
	}
	if o.DropIns == "" {
		o.DropIns = runtimeDropIns
	}
	return &Driver{opts: o, dir: o.Layout.Service(serviceName)}, nil
}

// Name is "dns".
func (d *Driver) Name() string { return "dns" }

// Kinds are those that this driver manages.
func (d *Driver) Kinds() []resource.Kind {
	return []resource.Kind{resource.KindResolver, resource.KindRecord}
}

func (d *Driver) zonePath() string { return filepath.Join(d.dir, zoneFile) }

// readZone returns the zone; an empty one when there is none.
func (d *Driver) readZone() (zone, error) {
	b, err := os.ReadFile(d.zonePath())
	if errors.Is(err, fs.ErrNotExist) {
		return zone{}, nil
	}
	if err != nil {
		return zone{}, err
	}
	z, err := decodeZone(b)
	if err == nil && z.Installation != d.opts.Installation {
		err = fmt.Errorf("%s belongs to installation %s; remove it if that is gone", d.zonePath(), z.Installation)
	}
	return z, err
}

// Observe reads the zone, and the supervisor's word on whether the server runs.
// A resolver that does not run is shown as the zero value: it differs from
// every wanted one.
func (d *Driver) Observe(context.Context) map[resource.Kind]resource.Domain {
	z, err := d.readZone()
	if err != nil {
		return map[resource.Kind]resource.Domain{resource.KindResolver: resource.Unknown(err), resource.KindRecord: resource.Unknown(err)}
	}
	records := make(resource.Set, len(z.Records))
	for _, r := range z.Records {
		item := resource.New(r.Owner, r.Instance, r.Value.Label, r.Value)
		records[item.ID] = item
	}
	return map[resource.Kind]resource.Domain{
		resource.KindResolver: d.observeResolver(z),
		resource.KindRecord:   {Items: records},
	}
}

func (d *Driver) observeResolver(z zone) resource.Domain {
	if !z.Resolver.Listen.IsValid() {
		return resource.Known()
	}
	st, _, err := d.opts.Supervisor.Status(d.dir)
	if err != nil {
		return resource.Unknown(err)
	}
	v := z.Resolver
	v.Resolved = d.asks(v)
	if !st.Running || !st.Ready || z.Subnet != d.opts.Naming.Subnet.Masked() {
		v = resource.Resolver{}
	}
	return resource.Known(resource.New(resource.HostOwner, "", serviceName, v))
}

// Apply writes all steps in one zone; the server takes it up by itself. The
// process is started after, or stopped before, as the resolver asks.
func (d *Driver) Apply(ctx context.Context, steps []resource.Step) []error {
	d.mu.Lock()
	defer d.mu.Unlock()
	errs := make([]error, len(steps))
	z, err := d.readZone()
	if err != nil {
		return all(errs, err)
	}
	resolver := -1
	for i, s := range steps {
		switch v := s.Resource.Value.(type) {
		case resource.Record:
			errs[i] = z.change(s, v)
		case resource.Resolver:
			resolver = i
			errs[i] = z.changeResolver(s, v)
		default:
			errs[i] = resource.Terminal("UnknownKind", fmt.Errorf("%s is not a step of the dns driver", s))
		}
	}
	if err := d.commit(ctx, z); err != nil {
		return all(errs, err)
	}
	if resolver >= 0 && errs[resolver] == nil && steps[resolver].Verb == resource.Put {
		errs[resolver] = errors.Join(d.start(ctx, z), d.syncDropIn(ctx, z.Resolver))
	}
	return errs
}

// all gives err to each step that has none of its own.
func all(errs []error, err error) []error {
	for i := range errs {
		if errs[i] == nil {
			errs[i] = err
		}
	}
	return errs
}

func (z *zone) change(s resource.Step, v resource.Record) error {
	name := s.Resource.Name
	i := slices.IndexFunc(z.Records, func(r record) bool { return r.Value.Label == name })
	if s.Verb == resource.Delete {
		if i >= 0 {
			z.Records = slices.Delete(z.Records, i, i+1)
		}
		return nil
	}
	if v.Label != name || !validLabel.MatchString(name) || !v.Addr.Is4() {
		return resource.Terminal("InvalidName", fmt.Errorf("record %q must be a DNS label named like its resource, with an IPv4 address", v.Label))
	}
	r := record{Value: v, Owner: s.Resource.Owner, Instance: s.Resource.Instance}
	if i < 0 {
		z.Records = append(z.Records, r)
		return nil
	}
	if now := z.Records[i].Owner; now != r.Owner && (s.Seen == nil || s.Seen.Owner != now) {
		return resource.ErrStale
	}
	z.Records[i] = r
	return nil
}

func (z *zone) changeResolver(s resource.Step, v resource.Resolver) error {
	if s.Verb == resource.Delete {
		z.Resolver = resource.Resolver{}
		return nil
	}
	if s.Resource.Name != serviceName || !v.Listen.IsValid() || v.Domain == "" {
		return resource.Terminal("InvalidName", fmt.Errorf("resolver %q must be named %q, and have an address and a domain", s.Resource.Name, serviceName))
	}
	for _, u := range v.Upstreams {
		if _, err := upstreamAddr(u); err != nil {
			return resource.Terminal("InvalidUpstream", err)
		}
	}
	z.Resolver = v
	return nil
}

// commit brings the zone to disk. Without a resolver there is no process, and
// without anything in it no file.
func (d *Driver) commit(ctx context.Context, z zone) error {
	if !z.Resolver.Listen.IsValid() {
		if err := d.syncDropIn(ctx, z.Resolver); err != nil {
			return err
		}
		if err := d.opts.Supervisor.Stop(ctx, d.dir, stopTimeout); err != nil {
			return fmt.Errorf("stop the DNS server: %w", err)
		}
		if len(z.Records) == 0 {
			return os.RemoveAll(d.dir)
		}
	}
	z.Version, z.Installation, z.Subnet = zoneVersion, d.opts.Installation, d.opts.Naming.Subnet.Masked()
	b, err := z.encode()
	if err != nil {
		return err
	}
	if now, err := os.ReadFile(d.zonePath()); err == nil && string(now) == string(b) {
		return nil
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	return host.WriteFile(d.zonePath(), b, 0o600)
}

// start makes the server run. One that runs has taken up the zone by itself,
// also another address.
func (d *Driver) start(ctx context.Context, z zone) error {
	st, _, err := d.opts.Supervisor.Status(d.dir)
	if err != nil {
		return err
	}
	if st.Running && st.Ready {
		return nil
	}
	if err := addressPresent(z.Resolver.Listen.Addr()); err != nil {
		return err
	}
	_, err = d.opts.Supervisor.Start(ctx, d.dir, supervise.Spec{
		Name:        serviceName,
		Unit:        d.opts.Naming.Unit(serviceName),
		Mark:        resource.Mark{Installation: d.opts.Installation, Owner: resource.HostOwner}.String(),
		Argv:        []string{d.opts.Program, "dns", d.dir},
		Env:         []string{"PATH=/usr/bin:/bin", "GOMAXPROCS=2"},
		Notify:      true,
		LogMax:      logMax,
		StopTimeout: stopTimeout,
	})
	if err != nil {
		return resource.Because("ResolverStart", fmt.Errorf("start the DNS server: %w", err))
	}
	return nil
}

// addressPresent waits for the service address.
func addressPresent(want netip.Addr) error {
	present, err := host.HasAddress(want)
	if err != nil {
		return err
	}
	if !present {
		return resource.Waiting("ServiceAddressMissing", retrySoon, fmt.Errorf("DNS is to listen on %s, which no interface of the host has yet", want))
	}
	return nil
}

// Watch tells of the server's start and end.
func (d *Driver) Watch(ctx context.Context, notify func()) error {
	parent := filepath.Dir(d.dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	return d.opts.Supervisor.Watch(ctx, parent, notify)
}
