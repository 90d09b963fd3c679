package onhost

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/doctor"
	"tekton.host/pkg/host"
	"tekton.host/pkg/machine/launch"
	"tekton.host/pkg/supervise/cgroup"
)

func kernel(ctx context.Context, l host.Layout, root bool) doctor.Kernel {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return doctor.Kernel{Release: err.Error()}
	}
	signature, _ := os.ReadFile("/proc/version_signature")
	k := doctor.Kernel{Release: unix.ByteSliceToString(u.Release[:])}
	k.Version = upstream(k.Release, unix.ByteSliceToString(u.Version[:]), string(signature))
	unseen := ""
	if !root {
		unseen = "only root can try"
	}
	feature := func(name, where string, warns bool, try func() error) {
		f := doctor.Feature{Name: name, Where: where, Warns: warns, Unseen: unseen}
		if unseen == "" {
			f.Err = reason(try())
		}
		k.Features = append(k.Features, f)
	}
	feature(doctor.UserNamespaces, "", false, userNamespaces)
	// Roots and volumes are below the state directory; host: true takes /usr, unmapped where it has to.
	state := existing(l.State)
	feature(doctor.IDMap, state, false, func() error { return launch.TryIDMap(state) })
	feature(doctor.IDMap, "/usr", true, func() error {
		if err := launch.TryIDMap("/usr"); err != nil {
			return fmt.Errorf("%w. Machines on the host's userland run all the same; its files belong to nobody in them", err)
		}
		return nil
	})
	feature(doctor.Overlay, "", false, overlay)
	feature(doctor.NfTables, "", false, func() error {
		_, err := host.Run(ctx, host.Command{Argv: []string{"nft", "list", "tables"}})
		return err
	})
	unseen = ""
	groups, err := cgroup.Find()
	feature(doctor.CgroupV2, groups.Root, false, func() error { return err })
	if err == nil {
		feature(doctor.Limits, "", true, func() error { return unenforced(groups) })
	}
	return k
}

// upstream is the release that a kernel was made from: Debian and Ubuntu have
// numbers of their own, and say the other one elsewhere.
func upstream(release, build, signature string) string {
	if m := regexp.MustCompile(`Debian ([0-9]+\.[0-9]+\.[0-9]+)`).FindStringSubmatch(build); m != nil {
		return m[1]
	}
	if f := strings.Fields(signature); len(f) == 3 && f[0] == "Ubuntu" {
		return f[2]
	}
	m := regexp.MustCompile(`^[0-9]+\.[0-9]+(\.[0-9]+)?`).FindString(release)
	if strings.HasSuffix(m, ".0") && m != release {
		return "" // 6.1.0-18-amd64: the last number is not the patch
	}
	return m
}

func userNamespaces() error {
	text, err := os.ReadFile("/proc/sys/user/max_user_namespaces")
	if err == nil && strings.TrimSpace(string(text)) == "0" {
		err = errors.New("user.max_user_namespaces is 0: the host allows none")
	}
	if err != nil {
		return err
	}
	_, err = os.Stat("/proc/self/ns/user")
	return err
}

// overlay asks for a file system that is mounted nowhere; the kernel loads its
// module, as it does for machines.
func overlay() error {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("the kernel has no overlay file system: %w", err)
	}
	return unix.Close(fd)
}

// unenforced says which limits would not be.
func unenforced(h cgroup.Host) error {
	missing := h.Unenforced()
	if len(missing) == 0 {
		return nil
	}
	var says []string
	for _, c := range slices.Sorted(maps.Keys(missing)) {
		says = append(says, c+": "+missing[c])
	}
	return errors.New(strings.Join(says, "; "))
}

// existing is the path, or the nearest directory above it that is there.
func existing(path string) string {
	for path != "/" {
		if _, err := os.Stat(path); err == nil {
			return path
		}
		path = filepath.Dir(path)
	}
	return path
}

func settings() map[string]string {
	out := map[string]string{}
	for _, key := range doctor.SettingKeys() {
		if text, err := os.ReadFile(settingFile(key)); err == nil {
			out[key] = strings.TrimSpace(string(text))
		}
	}
	return out
}

func settingFile(key string) string {
	return filepath.Join("/proc/sys", filepath.FromSlash(strings.ReplaceAll(key, ".", "/")))
}
