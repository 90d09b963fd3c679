package doctor

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"tekton.host/pkg/internal/terminal"
)

// setting of the kernel that many machines need.
type setting struct {
	key string
	// low warns below it; doctor --fix raises to set.
	low, set int
	why      string
}

// settings are per user of the host, or per host: all machines share them. The
// values to set are those of the NixOS module.
var settings = []setting{
	{"fs.inotify.max_user_instances", 1024, 8192, "each machine that boots a system takes some, and all count for root (https://github.com/NixOS/nixpkgs/issues/36214)"},
	{"fs.inotify.max_user_watches", 65536, 1048576, "each file that a machine or the daemon watches takes one"},
}

// sysctlFile is read at boot; its name sorts behind those of distributions.
const sysctlFile = "/etc/sysctl.d/90-tekton.conf"

func (j *judge) kernel() {
	k := j.f.Kernel
	if k.Version == "" {
		j.add(Finding{Check: Linux, Level: OK, Says: k.Release + "; its distribution does not tell which upstream release that is, so known flaws were not looked up"})
	} else {
		shown := k.Version
		if k.Release != shown {
			shown += " (" + k.Release + ")"
		}
		j.flaws(Linux, shown, "", nil)
	}
	for _, f := range k.Features {
		switch {
		case f.Unseen != "":
			j.unseen(f.Name, strings.TrimPrefix(f.Where+": "+f.Unseen, ": "))
		case f.Err != "":
			level := Error
			if f.Warns {
				level = Warning
			}
			j.add(Finding{Check: f.Name, Level: level, Says: f.Err, Where: f.Where, Fix: featureFix[f.Name]})
		default:
			j.ok(f.Name, "%s", cmp.Or(f.Where, "works"))
		}
	}
	j.settings()
}

// Names of features.
const (
	UserNamespaces = "user namespaces"
	IDMap          = "idmapped mounts"
	Overlay        = "overlay"
	NfTables       = "nf_tables"
	CgroupV2       = "cgroup v2"
	Limits         = "limits"
)

var featureFix = map[string]string{
	UserNamespaces: "sysctl user.max_user_namespaces=10000, and in a file of /etc/sysctl.d",
	IDMap:          "put it on ext4, xfs or btrfs, or use a newer kernel",
	Overlay:        "modprobe overlay; a kernel without it (CONFIG_OVERLAY_FS) cannot run machines with rootfs or host",
	NfTables:       "modprobe nf_tables; a kernel without it (CONFIG_NF_TABLES) cannot isolate machines",
	CgroupV2:       "mount it: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified, or boot with systemd.unified_cgroup_hierarchy=1",
	Limits:         "boot with cgroup v2 alone: systemd.unified_cgroup_hierarchy=1; until then such limits are accepted and not enforced (condition LimitsEnforced)",
}

func (j *judge) settings() {
	var low []string
	var changes []Change
	var text strings.Builder
	text.WriteString("# Made by tekton doctor --fix: what many machines need together.\n")
	for _, s := range settings {
		have, err := strconv.Atoi(j.f.Settings[s.key])
		fmt.Fprintf(&text, "%s = %d\n", s.key, s.set)
		if err == nil && have < s.low {
			low = append(low, fmt.Sprintf("%s is %d: %s", s.key, have, s.why))
			changes = append(changes, Change{Kind: SetSetting, Path: s.key, Text: strconv.Itoa(s.set)})
		}
	}
	switch {
	case len(low) == 0:
		j.ok("inotify", "%s instances, %s watches a user", j.f.Settings[settings[0].key], j.f.Settings[settings[1].key])
	case j.f.NixOS:
		j.add(Finding{Check: "inotify", Level: Warning, Says: strings.Join(low, "; "), Where: "/proc/sys/fs/inotify", Fix: "services.tekton.manyMachines = true in the host's configuration"})
	default:
		j.add(Finding{
			Check: "inotify", Level: Warning, Says: strings.Join(low, "; "), Where: "/proc/sys/fs/inotify", Fix: "tekton doctor --fix raises them",
			Changes: append([]Change{{Kind: WriteFile, Path: sysctlFile, Mode: 0o644, Text: text.String()}}, changes...),
		})
	}
	if v := j.f.Settings[LooseCheck]; v == "2" {
		j.add(Finding{
			Check: "source addresses", Level: Warning, Says: LooseCheck + " is 2: whenever nft has no rules of ours, machines can forge source addresses until they are repaired",
			Where: LooseCheck, Fix: "set it to 0 or 1 where nothing else on the host needs it",
		})
	} else if v != "" {
		j.ok("source addresses", "%s is %s: links check strictly by themselves", LooseCheck, v)
	}
}

// LooseCheck is the setting that, at 2, weakens the links' own check.
const LooseCheck = "net.ipv4.conf.all.rp_filter"

// SettingKeys are those that Facts.Settings is to have.
func SettingKeys() []string {
	keys := []string{LooseCheck}
	for _, s := range settings {
		keys = append(keys, s.key)
	}
	return keys
}

// Room that a file system should have: below low it is time to act, below none
// work stops soon.
const (
	lowBytes, noBytes = 2 << 30, 256 << 20
	lowShare, noShare = 0.05, 0.01 // of inodes
)

func (j *judge) disks() {
	for _, d := range j.f.Disks {
		if d.Err != "" {
			j.unseen(d.Path, d.Err)
			continue
		}
		says := fmt.Sprintf("%s of %s free", terminal.Bytes(int64(d.Free)), terminal.Bytes(int64(d.Size)))
		level := OK
		switch {
		case d.Free < noBytes:
			level = Error
		case d.Free < lowBytes && float64(d.Free) < 0.1*float64(d.Size):
			level = Warning
		}
		if d.Inodes > 0 {
			share := float64(d.FreeInodes) / float64(d.Inodes)
			says += fmt.Sprintf(", %.0f %% of its inodes", share*100)
			switch {
			case share < noShare:
				level = Error
			case share < lowShare && level == OK:
				level = Warning
			}
		}
		f := Finding{Check: d.Path, Level: level, Says: says + " (" + d.Type + ")"}
		if level != OK {
			f.Where, f.Fix = d.Path, "free some: df -h, df -i; tekton data list shows what is in the trash"
		}
		j.add(f)
	}
}
