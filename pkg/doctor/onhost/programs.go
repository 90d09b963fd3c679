package onhost

import (
	"bufio"
	"compress/gzip"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/doctor"
	"tekton.host/pkg/host"
	"tekton.host/pkg/supervise"
)

// asked is how each program tells its version, and whose package it is in.
var asked = []struct {
	name     string
	flags    []string
	packages []string // globs of Debian's names
}{
	{doctor.Nspawn, []string{"--version"}, []string{"systemd-container", "systemd"}},
	{doctor.Nft, []string{"--version"}, []string{"nftables"}},
	{doctor.Caddy, []string{"version"}, []string{"caddy"}},
	{doctor.Postgres, []string{"--version"}, []string{"postgresql-[0-9]*"}},
	{doctor.Git, []string{"--version"}, []string{"git"}},
	{doctor.Nix, []string{"--version"}, []string{"nix-bin"}},
}

// number is a version among the words of an answer.
var number = regexp.MustCompile(`\bv?([0-9]+(\.[0-9]+)*)\b`)

// versionIn is the first one, or what says it more exactly: "systemd 257 (257.9-1)".
func versionIn(answer string) string {
	m := number.FindStringSubmatch(answer)
	if m == nil {
		return ""
	}
	if more := regexp.MustCompile(`\((` + m[1] + `\.[0-9.]*[0-9])`).FindStringSubmatch(answer); more != nil {
		return more[1]
	}
	return m[1]
}

func programs(ctx context.Context, h v1alpha1.HostSpec) []doctor.Program {
	var out []doctor.Program
	for _, a := range asked {
		p := doctor.Program{Name: a.name}
		p.Path, _ = exec.LookPath(a.name)
		if a.name == doctor.Postgres {
			p.Path = ""
			if dirs := host.PostgresPrograms(h.Postgres.BinDir); len(dirs) > 0 {
				p.Path = filepath.Join(dirs[0], a.name)
			}
		}
		if p.Path != "" {
			answer, err := host.Run(ctx, host.Command{Argv: append([]string{p.Path}, a.flags...)})
			first, _, _ := strings.Cut(string(answer), "\n")
			p.Version = versionIn(first)
			p.Err, p.Mended = reason(err), mended(a.packages)
		}
		out = append(out, p)
	}
	return out
}

// searchPath is where the daemon finds programs: the path of its unit, as on
// NixOS, then ours, then what only root's own path has.
func searchPath(ctx context.Context) string {
	var unit string
	if supervise.DetectForm() == supervise.Systemd {
		if out, err := host.Run(ctx, host.Command{Argv: []string{"systemctl", "show", "--property=Environment", "--value", "tektond.service"}}); err == nil {
			unit = pathIn(string(out))
		}
	}
	return strings.Join(slices.DeleteFunc([]string{unit, os.Getenv("PATH"), "/usr/sbin", "/sbin"}, func(p string) bool { return p == "" }), ":")
}

// pathIn reads PATH of a unit's environment.
func pathIn(environment string) string {
	for field := range strings.FieldsSeq(environment) {
		if path, found := strings.CutPrefix(field, "PATH="); found {
			return path
		}
	}
	return ""
}

// mended returns which known flaws the changelogs of Debian's packages name:
// distributions mend flaws without a new version.
func mended(packages []string) []string {
	var found []string
	for _, p := range packages {
		logs, _ := filepath.Glob("/usr/share/doc/" + p + "/changelog.Debian.gz")
		for _, log := range logs {
			f, err := os.Open(log)
			if err != nil {
				continue
			}
			if text, err := gzip.NewReader(f); err == nil {
				found = append(found, flawsIn(text)...)
			}
			f.Close()
		}
	}
	return found
}

func flawsIn(text io.Reader) (found []string) {
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		for _, name := range doctor.Flaws() {
			if strings.Contains(lines.Text(), name) && !slices.Contains(found, name) {
				found = append(found, name)
			}
		}
	}
	return found
}

// missingPrograms of tekton's own: they find each other beside the daemon.
func missingPrograms(dir string) (missing []string) {
	for _, name := range []string{"tektond", "tekton-supervise", "tekton-launch", "tekton-init"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			missing = append(missing, filepath.Join(dir, name))
		}
	}
	return missing
}
