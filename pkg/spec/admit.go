package spec

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
)

// Admit reports what a source may not ask for. allow nil admits everything.
func Admit(o Object, allow *v1alpha1.Admission) []Problem {
	if allow == nil {
		return nil
	}
	var problems []Problem
	refuse := func(path, format string, args ...any) {
		problems = append(problems, o.Problem(path, ReasonSourcePolicy, fmt.Sprintf(format, args...)))
	}
	if kind := o.Type().Kind; len(allow.Kinds) > 0 && !slices.Contains(allow.Kinds, kind) {
		refuse("kind", "%s is not admitted from this source, only %s", kind, strings.Join(allow.Kinds, ", "))
	}
	needy, ok := o.Object.(interface{ Needs() []v1alpha1.Need })
	if !ok {
		refuse("kind", "a %s is not admitted from a source with limits", o.Type().Kind)
		return problems
	}
	for _, n := range needy.Needs() {
		if why := refusal(n, allow); why != "" {
			refuse(n.Path.String(), "%q %s", n.Value, why)
		}
	}
	return problems
}

// refusal says why a need is not admitted; empty: it is.
func refusal(n v1alpha1.Need, allow *v1alpha1.Admission) string {
	ok, what := false, ""
	switch n.Sort {
	case v1alpha1.NeedTrust:
		ok = n.Value == "untrusted" || allow.MaxTrust == n.Value
		what = "is more trust than the source may give (allow.maxTrust is untrusted)"
	case v1alpha1.NeedDomain:
		ok = slices.ContainsFunc(allow.Domains, func(pattern string) bool { return v1alpha1.MatchHost(pattern, n.Value) })
		what = "is not a host name that the source may use " + listed("domains", allow.Domains)
	case v1alpha1.NeedLinkTarget:
		ok = admits(allow.LinkTargets, n.Value)
		what = "is not an object that the source may link to " + listed("linkTargets", allow.LinkTargets)
	case v1alpha1.NeedSecret:
		ok = admits(allow.Secrets, n.Value)
		what = "is not a secret that the source may use (its allow.secrets does not name it)"
	case v1alpha1.NeedHostPath:
		ok = slices.ContainsFunc(allow.HostPaths, func(dir string) bool { return within(dir, n.Value) })
		what = "is not a path of the host that the source may use " + listed("hostPaths", allow.HostPaths)
	case v1alpha1.NeedHostPort:
		ok = slices.ContainsFunc(allow.HostPorts, func(ports string) bool { return inRange(ports, n.Value) })
		what = "is not a port of the host that the source may publish " + listed("hostPorts", allow.HostPorts)
	case v1alpha1.NeedFlake:
		ok = begins(allow.Flakes, n.Value)
		what = "is not a flake that the source may have built " + listed("flakes", allow.Flakes)
	case v1alpha1.NeedRepository:
		ok = begins(repositories(allow, n.Value), n.Value)
		what = "is not a repository that the source may use " + listed("repositories", allow.Repositories)
	case v1alpha1.NeedTemplate:
		ok = admits(allow.DatabaseTemplates, n.Value)
		what = "is not a database that the source may have copied " + listed("databaseTemplates", allow.DatabaseTemplates)
	default:
		what = fmt.Sprintf("is a %s, which a source with limits may not ask for", n.Sort)
	}
	if ok {
		return ""
	}
	return what
}

func listed(name string, values []string) string {
	if len(values) == 0 {
		return fmt.Sprintf("(allow.%s is empty)", name)
	}
	return fmt.Sprintf("(allow.%s: %s)", name, strings.Join(values, ", "))
}

func admits(list []string, value string) bool {
	return slices.Contains(list, "*") || slices.Contains(list, value)
}

// begins reports whether a value is on the list, whole or by its beginning.
func begins(list []string, value string) bool {
	return slices.ContainsFunc(list, func(f string) bool {
		begin, open := strings.CutSuffix(f, "*")
		return f == value || open && strings.HasPrefix(value, begin)
	})
}

// repositories are the entries that a url or the name of a Repository may match: no
// pattern of the one admits the other.
func repositories(allow *v1alpha1.Admission, value string) []string {
	var same []string
	for _, entry := range allow.Repositories {
		if entry == "*" || strings.Contains(entry, "://") == strings.Contains(value, "://") {
			same = append(same, entry)
		}
	}
	return same
}

// within reports whether p is dir or lies below it.
func within(dir, p string) bool {
	dir, p = path.Clean(dir), path.Clean(p)
	return dir == "/" || p == dir || strings.HasPrefix(p, dir+"/")
}

func inRange(ports, value string) bool {
	first, last, err := v1alpha1.ParsePortRange(ports)
	port, errPort := strconv.Atoi(value)
	return err == nil && errPort == nil && port >= first && port <= last
}
