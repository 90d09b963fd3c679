package launch

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

// maxCopy bounds what is copied of the host's /etc.
const maxCopy = 1 << 20

// hostCopies are single files of the host that programs expect; what is not
// there is left out.
var hostCopies = []string{
	"/etc/os-release", "/etc/localtime", "/etc/ld.so.cache", "/etc/services",
	"/etc/protocols", "/etc/mime.types", "/etc/ssl/openssl.cnf",
}

// hostBinds are directories of the host's /etc that are bound read-only:
// public by nature and too large to copy.
var hostBinds = []string{"/etc/alternatives", "/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/ca-certificates"}

// skeletonDirs are the directories of a root that has only the host's userland.
var skeletonDirs = map[string]fs.FileMode{
	"etc": 0o755, "etc/ssl": 0o755, "usr": 0o755, "proc": 0o555, "sys": 0o555, "dev": 0o755, "run": 0o755,
	"tmp": 0o777 | fs.ModeSticky, "var": 0o755, "var/tmp": 0o777 | fs.ModeSticky, "var/lib": 0o755,
	"var/cache": 0o755, "var/log": 0o755, "root": 0o700, "home": 0o755, "opt": 0o755, "srv": 0o755,
}

// skeleton fills dir, which is on the launcher's own tmpfs, with the lower
// layer of a machine that runs the host's userland; all of it belongs to base.
func skeleton(dir string, r Record, userland hostSystem) error {
	i := r.Instance
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	s := &skeletonWriter{root: root, owner: int(i.UIDBase)}
	s.own(".")
	for d, mode := range skeletonDirs {
		s.dir(d, mode)
	}
	for name, target := range userland.links {
		s.link(name, target)
	}
	for _, f := range hostCopies {
		s.copy(f)
	}
	s.file("etc/passwd", systemAccounts("/etc/passwd", 7))
	s.file("etc/group", systemAccounts("/etc/group", 4))
	s.file("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")
	s.file("etc/hostname", i.Hostname+"\n")
	s.file("etc/machine-id", strings.ReplaceAll(machineID(r), "-", "")+"\n")
	hosts := "127.0.0.1 localhost\n::1 localhost\n"
	if i.Addr.IsValid() {
		hosts += i.Addr.String() + " " + i.Hostname + "\n"
	}
	s.file("etc/hosts", hosts)
	return s.err
}

// skeletonWriter keeps the first error.
type skeletonWriter struct {
	root  *os.Root
	owner int
	err   error
}

func (s *skeletonWriter) do(err error) {
	if s.err == nil && err != nil {
		s.err = fmt.Errorf("build the root's skeleton: %w", err)
	}
}

func (s *skeletonWriter) own(name string) { s.do(s.root.Lchown(name, s.owner, s.owner)) }

func (s *skeletonWriter) dir(name string, mode fs.FileMode) {
	if s.err != nil {
		return
	}
	s.do(s.root.MkdirAll(name, 0o755))
	s.do(s.root.Chmod(name, mode))
	for d := name; d != "."; d = filepath.Dir(d) {
		s.own(d)
	}
}

func (s *skeletonWriter) link(name, target string) {
	if dir := filepath.Dir(name); dir != "." && s.err == nil {
		s.do(s.root.MkdirAll(dir, 0o755))
		s.own(dir)
	}
	if s.err == nil {
		s.do(s.root.Symlink(target, name))
		s.own(name)
	}
}

func (s *skeletonWriter) file(name, content string) {
	if s.err == nil {
		s.do(s.root.WriteFile(name, []byte(content), 0o644))
		s.own(name)
	}
}

func (s *skeletonWriter) copy(path string) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxCopy {
		return
	}
	if b, err := os.ReadFile(path); err == nil {
		s.file(path[1:], string(b))
	}
}

// systemAccounts reads an account file of the host without its people: ids
// below 1000 and nobody, no password field, no group members.
func systemAccounts(path string, fields int) string {
	f, err := os.Open(path)
	if err != nil {
		return map[int]string{4: "root:x:0:\n", 7: "root:x:0:0:root:/root:/bin/sh\n"}[fields]
	}
	defer f.Close()
	var b strings.Builder
	for lines := bufio.NewScanner(f); lines.Scan(); {
		p := strings.Split(lines.Text(), ":")
		if len(p) != fields {
			continue
		}
		id, err := strconv.Atoi(p[2])
		if err != nil || (id >= 1000 && id != 65534) {
			continue
		}
		p[1] = "x"
		if fields == 4 {
			p[3] = ""
		}
		b.WriteString(strings.Join(p, ":") + "\n")
	}
	return b.String()
}

// hostSystem is where the host's userland is.
type hostSystem struct {
	binds []resource.Bind   // read-only
	links map[string]string // in the skeleton
}

// nixosSystem is the userland of a NixOS host with these store paths.
func nixosSystem(sw, etc string) hostSystem {
	h := hostSystem{
		binds: []resource.Bind{{Source: storeDir, Target: storeDir}},
		links: map[string]string{
			"bin": sw + "/bin", "sbin": sw + "/bin", "lib": sw + "/lib",
			"usr/bin": sw + "/bin", "usr/sbin": sw + "/bin", "usr/lib": sw + "/lib", "usr/share": sw + "/share",
		},
	}
	if strings.HasPrefix(etc, storeDir+"/") {
		// The certificates of /etc/ssl/certs are links to it.
		h.links["etc/static"] = etc
	}
	return h
}

// keepSystem links the machine's directory, which is the working directory, to
// the host's current system; that link is a root of Nix's garbage collector.
// Should the host switch meanwhile, it does so again: a system that is not the
// current one any more may be collected before the link is seen.
func keepSystem() (system string, isNixOS bool, err error) {
	const next = host.SystemLink + ".next"
	for {
		system, isNixOS = host.CurrentSystem()
		if !isNixOS {
			return "", false, nil
		}
		if kept, _ := os.Readlink(host.SystemLink); kept == system {
			return system, true, nil
		}
		os.Remove(next) // what a start that was cut short left
		if err := os.Symlink(system, next); err != nil {
			return "", false, err
		}
		if err := os.Rename(next, host.SystemLink); err != nil {
			return "", false, err
		}
	}
}

// detectHost returns how to show the host's userland: /usr on FHS hosts, the
// store and the current system's profile on NixOS.
func detectHost() (hostSystem, error) {
	var h hostSystem
	system, isNixOS, err := keepSystem()
	if err != nil {
		return h, err
	}
	if isNixOS {
		sw, err := filepath.EvalSymlinks(filepath.Join(system, "sw"))
		if err != nil {
			return h, fail(ExitSystem, "system.host: the host's current system has no sw: %v", err)
		}
		etc, _ := filepath.EvalSymlinks(filepath.Join(system, "etc")) // not there: nothing to show
		h = nixosSystem(sw, etc)
	} else {
		h.binds = []resource.Bind{{Source: "/usr", Target: "/usr"}}
		h.links = map[string]string{}
		for _, name := range []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
			target, err := os.Readlink("/" + name)
			if err == nil {
				h.links[name] = strings.TrimPrefix(target, "/")
			} else if info, err := os.Stat("/" + name); err == nil && info.IsDir() {
				h.binds = append(h.binds, resource.Bind{Source: "/" + name, Target: "/" + name})
			}
		}
		if _, err := os.Stat("/usr/bin/env"); err != nil {
			return h, fail(ExitSystem, "system.host: this host has neither /run/current-system/sw nor /usr/bin/env: use system.rootfs")
		}
	}
	for _, dir := range hostBinds {
		if p, err := filepath.EvalSymlinks(dir); err == nil {
			h.binds = append(h.binds, resource.Bind{Source: p, Target: dir})
		}
	}
	return h, nil
}
