package soak_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"tekton.host/test/systemdhost"
)

// sample is what there is of each sort of thing.
type sample map[string]int

// looks of one sample: the least of them counts. What comes and goes falls away
// with that; what is left behind does not.
const looks = 4

// rest samples the host, on which nothing is to be done.
func (r *rig) rest() (sample, error) {
	var least sample
	for range looks {
		s, err := r.sample()
		if err != nil {
			return nil, err
		}
		if least == nil {
			least = s
		}
		for name, n := range s {
			least[name] = min(least[name], n)
		}
		time.Sleep(500 * time.Millisecond) // looks are apart: what ends by itself has ended in one
	}
	return least, nil
}

func (r *rig) sample() (sample, error) {
	s := sample{}
	err := errors.Join(r.sampleHost(s), r.sampleFiles(s), r.sampleProcesses(s))
	if err == nil && s["postgres processes"] > 0 {
		err = r.sampleDatabase(s)
	}
	return s, err
}

// sampleHost counts what the kernel has.
func (r *rig) sampleHost(s sample) error {
	for name, argv := range map[string][]string{
		"links": {"ip", "-o", "link", "show"}, "addresses": {"ip", "-o", "address", "show"}, "ip rules": {"ip", "rule", "show"},
		"routes": {"ip", "route", "show", "table", "all"}, "neighbours": {"ip", "neigh", "show", "nud", "all"},
	} {
		out, err := exec.Command(argv[0], argv[1:]...).Output()
		if err != nil {
			return fmt.Errorf("%q: %w", argv, err)
		}
		s[name] = strings.Count(string(out), "\n")
	}
	for name, path := range map[string]string{"conntrack": "/proc/sys/net/netfilter/nf_conntrack_count"} {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		s[name], _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	s["mounts"] = strings.Count(string(mounts), "\n")
	for _, group := range r.cgroups() {
		s["cgroups"] += count(group, nil)["directories"]
	}
	if systemdhost.Inside() {
		for _, dir := range []string{"/etc/nixos-containers", "/var/lib/nixos-containers", "/nix/var/nix/profiles", "/nix/var/nix/gcroots", "/run/systemd/system.control", "/run/systemd/nspawn"} {
			c := count(dir, nil)
			s["containers"] += c["directories"] + c["files"]
		}
		out, err := exec.Command("systemctl", "list-units", "--all", "--plain", "--no-legend", "tekton-"+r.instance+"*", "container@*").Output()
		if err != nil {
			return err
		}
		s["units"] = strings.Count(string(out), "\n")
	}
	return errors.Join(err, r.sampleRules(s))
}

// sampleRules counts the elements of our nft table.
func (r *rig) sampleRules(s sample) error {
	out, err := exec.Command("nft", "-j", "list", "ruleset").Output()
	if err != nil {
		return fmt.Errorf("nft list ruleset: %w", err)
	}
	var list struct {
		Nftables []map[string]struct {
			Elem []json.RawMessage `json:"elem"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return fmt.Errorf("nft list ruleset: %w", err)
	}
	s["nft objects"] = len(list.Nftables)
	for _, o := range list.Nftables {
		s["nft elements"] += len(o["set"].Elem) + len(o["map"].Elem)
	}
	return nil
}

// cgroups of this installation.
func (r *rig) cgroups() []string {
	var out []string
	filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(d.Name(), "tekton-"+r.instance) {
			out = append(out, path)
			return fs.SkipDir
		}
		return nil
	})
	return out
}

// count files and directories below a path.
func count(path string, skip func(path string) bool) sample {
	s := sample{}
	filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
		case skip != nil && skip(path):
			return fs.SkipDir
		case d.IsDir():
			s["directories"]++
		default:
			s["files"]++
		}
		return nil
	})
	return s
}

// sampleFiles counts what is in our directories. What PostgreSQL has in its own
// follows from its databases, which are counted.
func (r *rig) sampleFiles(s sample) error {
	for _, dir := range []string{"state", "run"} {
		for what, n := range count(r.path(dir), func(path string) bool {
			// The log of the machine that it took over from: at most one a machine, which not every one has yet.
			return path == r.path("state/services/postgres/data") || filepath.Base(path) == "previous"
		}) {
			s[dir+" "+what] = n
		}
	}
	info, err := os.Stat(r.path("state/ledger.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		s["ledger KiB"] = int(info.Size() >> 10)
	}
	return err
}

type process struct {
	pid           int
	comm, cmdline string
}

// processes of this installation, without what has ended.
func (r *rig) processes() []process {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var out []process
	for _, dir := range dirs {
		cmdline, err := os.ReadFile(dir + "/cmdline")
		comm, err2 := os.ReadFile(dir + "/comm")
		cgroup, err3 := os.ReadFile(dir + "/cgroup")
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if errors.Join(err, err2, err3) != nil || len(cmdline) == 0 || pid == os.Getpid() {
			continue
		}
		if strings.Contains(string(cmdline), r.dir) || strings.Contains(string(cgroup), "tekton-"+r.instance) {
			out = append(out, process{pid, strings.TrimSpace(string(comm)), string(cmdline)})
		}
	}
	return out
}

// sampleProcesses measures the daemon, Caddy and the supervisors.
func (r *rig) sampleProcesses(s sample) error {
	var errs []error
	for _, p := range r.processes() {
		s["processes"]++
		switch {
		case p.pid == r.daemon.Process.Pid:
			s.add("tektond", p.pid)
			watches, err := exec.Command("sh", "-c", fmt.Sprintf("cat /proc/%d/fdinfo/* 2>/dev/null | grep -c ^inotify", p.pid)).Output()
			s["tektond watches"], _ = strconv.Atoi(strings.TrimSpace(string(watches)))
			if len(watches) == 0 {
				errs = append(errs, err)
			}
			errs = append(errs, s.profile("tektond", r.path("run/tekton.sock"), "/v1/debug/pprof"))
		case p.comm == "caddy":
			s.add("caddy", p.pid)
			errs = append(errs, s.profile("caddy", r.path("run/caddy/admin.sock"), "/debug/pprof"))
		case p.comm == "postgres":
			s["postgres processes"]++
		case p.comm == "tekton-supervis": // a name has 15 bytes
			s["supervisors"]++
			s.add("supervisors", p.pid)
		}
	}
	return errors.Join(errs...)
}

// add what /proc says of a process.
func (s sample) add(who string, pid int) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	s[who+" RSS KiB"] += number(`(?m)^VmRSS:\s+(\d+)`, string(status))
	s[who+" threads"] += number(`(?m)^Threads:\s+(\d+)`, string(status))
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	s[who+" descriptors"] += len(fds)
}

// profile asks a program of Go for its heap after a collection, and its goroutines.
func (s sample) profile(who, socket, path string) error {
	heap, err := overSocket(socket, path+"/heap?gc=1&debug=1")
	if err != nil {
		return fmt.Errorf("the heap of %s: %w", who, err)
	}
	goroutines, err := overSocket(socket, path+"/goroutine?debug=1")
	if err != nil {
		return fmt.Errorf("the goroutines of %s: %w", who, err)
	}
	s[who+" heap KiB"] = number(`# HeapAlloc = (\d+)`, heap) >> 10
	s[who+" goroutines"] = number(`goroutine profile: total (\d+)`, goroutines)
	return nil
}

func number(pattern, text string) int {
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// sampleDatabase counts what PostgreSQL has, as its administrator.
func (r *rig) sampleDatabase(s sample) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, fmt.Sprintf("host=%s port=5432 user=tekton dbname=postgres sslmode=disable", r.path("run/postgres")))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for name, query := range map[string]string{
		"databases": "SELECT count(*) FROM pg_database", "roles": "SELECT count(*) FROM pg_roles",
		"postgres sessions": "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'",
	} {
		var n int
		if err := conn.QueryRow(ctx, query).Scan(&n); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s[name] = n
	}
	return nil
}
