package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
)

// settings are the kernel settings that this process recorded or restored.
type settings struct {
	mu       sync.Mutex
	recorded map[string]string
	restored map[string]bool
}

// records returns the recorded originals, without what was restored since.
func (d *Driver) records() map[string]string {
	d.settings.mu.Lock()
	defer d.settings.mu.Unlock()
	out := map[string]string{}
	all := d.settings.recorded
	if d.originals != nil {
		all = d.originals()
	}
	for k, v := range all {
		if !d.settings.restored[k] {
			out[k] = v
		}
	}
	return out
}

// observeSysctls reports the settings that were recorded: a value alone does
// not show whether it is ours.
func (d *Driver) observeSysctls() resource.Domain {
	var found []resource.Resource
	for key := range d.records() {
		value, err := readSysctl(key)
		if err != nil {
			return resource.Unknown(err)
		}
		found = append(found, d.hostResource(key, resource.Sysctl{Key: key, Value: value}))
	}
	return resource.Known(found...)
}

// putSysctl records the original, then changes the setting.
func (d *Driver) putSysctl(v resource.Sysctl) error {
	now, err := readSysctl(v.Key)
	if err != nil {
		return err
	}
	if _, ok := d.records()[v.Key]; !ok {
		if err := d.recordSysctl(v.Key, now); err != nil {
			return fmt.Errorf("record that %s was %q before changing it: %w", v.Key, now, err)
		}
	}
	d.settings.mu.Lock()
	if d.settings.recorded == nil {
		d.settings.recorded, d.settings.restored = map[string]string{}, map[string]bool{}
	}
	if _, ok := d.settings.recorded[v.Key]; !ok {
		d.settings.recorded[v.Key] = now
	}
	delete(d.settings.restored, v.Key)
	d.settings.mu.Unlock()
	if now == v.Value {
		return nil
	}
	return writeSysctl(v.Key, v.Value)
}

// restoreSysctl writes the recorded original; without a record it writes the
// step's value, which the caller then took from its own record.
func (d *Driver) restoreSysctl(v resource.Sysctl) error {
	original, ok := d.records()[v.Key]
	if !ok && d.isRestored(v.Key) {
		return nil
	}
	if !ok {
		original = v.Value
	}
	now, err := readSysctl(v.Key)
	if err == nil && now != original {
		err = writeSysctl(v.Key, original)
	}
	if err != nil {
		return err
	}
	d.settings.mu.Lock()
	defer d.settings.mu.Unlock()
	delete(d.settings.recorded, v.Key)
	if d.settings.restored == nil {
		d.settings.restored = map[string]bool{}
	}
	d.settings.restored[v.Key] = true
	return nil
}

func (d *Driver) isRestored(key string) bool {
	d.settings.mu.Lock()
	defer d.settings.mu.Unlock()
	return d.settings.restored[key]
}

// sysctlPath refuses keys that would leave /proc/sys.
func sysctlPath(key string) (string, error) {
	path := filepath.FromSlash(strings.ReplaceAll(key, ".", "/"))
	if !filepath.IsLocal(path) || strings.Contains(key, "/") {
		return "", fmt.Errorf("%q is not the name of a kernel setting", key)
	}
	return filepath.Join("/proc/sys", path), nil
}

func readSysctl(key string) (string, error) {
	path, err := sysctlPath(key)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read kernel setting %s: %w", key, err)
	}
	return strings.TrimSpace(string(b)), nil
}

func writeSysctl(key, value string) error {
	path, err := sysctlPath(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("set kernel setting %s to %q: %w", key, value, err)
	}
	return nil
}

// addressLabel marks the service address on lo.
func (d *Driver) addressLabel() string { return "lo:" + d.naming.LinkPrefix() }

func (d *Driver) observeAddress(k *kernel) resource.Domain {
	var found []resource.Resource
	for _, a := range k.Addrs {
		if a.Label == d.addressLabel() {
			v := resource.Address{}
			if a.Addr.IsSingleIP() {
				v.Addr = a.Addr.Addr()
			}
			found = append(found, d.hostResource(a.Addr.Addr().String(), v))
		}
	}
	return resource.Known(found...)
}

func (d *Driver) putAddress(v resource.Address) error {
	k, err := readKernel()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(k.Addrs, func(a hostAddr) bool { return a.Label == d.addressLabel() && a.Addr == single(v.Addr) }) {
		return nil
	}
	if err := d.subnetConflict(k); err != nil {
		return err
	}
	lo, err := d.rt.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	err = d.rt.AddrAdd(lo, d.loAddr(v.Addr))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("give lo the service address %s: %w", v.Addr, err)
	}
	return nil
}

func (d *Driver) deleteAddress(v resource.Address) error {
	k, err := readKernel()
	if err != nil {
		return err
	}
	lo, err := d.rt.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	for _, a := range k.Addrs {
		if a.Label != d.addressLabel() || v.Addr.IsValid() && a.Addr.Addr() != v.Addr {
			continue
		}
		if err := d.rt.AddrDel(lo, &netlink.Addr{IPNet: ipNet(a.Addr), Label: a.Label}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("take the service address %s from lo: %w", a.Addr, err)
		}
	}
	return nil
}

// loAddr has host scope: the kernel must not choose it as a source by itself.
func (d *Driver) loAddr(a netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: ipNet(single(a)), Label: d.addressLabel(), Scope: unix.RT_SCOPE_HOST}
}

// putTable loads the static part, with the elements that are there.
func (d *Driver) putTable(ctx context.Context, v resource.Table) error {
	t, err := d.rules.read()
	if err != nil {
		return err
	}
	if err := d.tableConflict(t); err != nil {
		return err
	}
	if t.present {
		have, digest, ok := parseAbout(t.notes)
		if ok && digest == t.digest && have.Equal(v) {
			return nil
		}
	}
	k, err := readKernel()
	if err != nil {
		return err
	}
	if err := d.subnetConflict(k); err != nil {
		return err
	}
	for _, note := range about(v) {
		if len(note) > maxComment {
			return resource.Terminal("TooManyPorts", fmt.Errorf("nft takes at most %d characters of %q; use fewer ingress ports", maxComment, note))
		}
	}
	keep := slices.DeleteFunc(t.elements(), func(e element) bool { return !d.writable(e) })
	err = d.rules.load(ctx, d.tableText(v, keep))
	if err != nil && len(keep) > 0 {
		// What somebody added may contradict ours. Endpoints are put again when they are missing.
		d.log.Info("nft table does not load with its elements", "name", d.naming.Table(), "reason", err.Error())
		keep, err = nil, d.rules.load(ctx, d.tableText(v, nil))
	}
	if err != nil {
		return err
	}
	d.log.Info("nft table loaded", "name", d.naming.Table(), "elements", len(keep))
	return nil
}

// writable reports whether an element can be one of ours: what somebody else
// put into our table, in whatever characters, does not get into our text.
func (d *Driver) writable(e element) bool {
	if e.Set == setBound {
		v, _ := decode(e.Key, e.Set.key)
		if _, ok := d.slot(v[0].(string)); !ok {
			return false
		}
	}
	m, marked := resource.ParseMark(e.Comment)
	return e.Comment == "" || marked && m.Installation == d.installation && !strings.ContainsAny(e.Comment, "\"\\\n")
}

func (d *Driver) deleteTable() error {
	t, err := d.rules.read()
	if err != nil || !t.present {
		return err
	}
	if err := d.tableConflict(t); err != nil {
		return err
	}
	return d.rules.remove()
}

// tableConflict refuses a table of our name that is not ours.
func (d *Driver) tableConflict(t *table) error {
	if !t.present || d.owns(t) {
		return nil
	}
	whose := "no mark of tekton"
	if m, ok := resource.ParseMark(t.comment); ok {
		whose = "the mark of installation " + m.Installation
	}
	return resource.Taken("InstallationConflict", fmt.Errorf(
		"nft table inet %s exists and has %s: it is left alone; remove it or give this daemon another Host.spec.instance", d.naming.Table(), whose))
}
