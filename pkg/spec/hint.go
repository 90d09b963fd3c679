package spec

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const noImages = "tekton runs no container images; set spec.system (host: true, rootfs or storePath)"

// habits are fields that other tools have under another name, without indexes.
var habits = map[string]string{
	"metadata.namespace":       "tekton has no namespaces: names are unique on a host; remove the line",
	"metadata.uid":             "tekton gives out UIDs itself; remove the line",
	"metadata.ownerRef":        "tekton has no owner references; remove the line",
	"status":                   "status is what tekton reports; remove it",
	"spec.image":               noImages,
	"spec.system.image":        noImages,
	"spec.replicas":            "an object has one machine; write one object for each",
	"spec.env":                 "did you mean spec.environment?",
	"spec.args":                "did you mean spec.command? It is one list with the program and its arguments",
	"spec.entrypoint":          "did you mean spec.command?",
	"spec.workdir":             "did you mean spec.workingDirectory?",
	"spec.secrets":             "did you mean spec.credentials?",
	"spec.credentials[].value": "a spec holds no secrets; keep it with: tekton secret set NAME, and write secret: NAME here",
	"spec.limits":              "did you mean spec.resources?",
	"spec.resources.limits":    "write what it holds here: memoryMax, cpuQuota",
	"spec.memory":              "did you mean spec.resources.memoryMax?",
	"spec.cpu":                 "did you mean spec.resources.cpuQuota?",
	"spec.cpus":                "did you mean spec.resources.cpuQuota?",
	"spec.ingress":             "did you mean spec.routes?",
	"spec.domain":              "did you mean spec.routes[].host?",
	"spec.host":                "did you mean spec.routes[].host?",
	"spec.hostname":            "the machine's own is the object's name; the one that others ask for is spec.routes[].host",
	"spec.routes[].domain":     "did you mean \"host\"?",
	"spec.port":                "did you mean spec.routes[].port, or spec.network.ports for a port of the host?",
	"spec.postgres":            "did you mean spec.databases?",
	"spec.postgresql":          "did you mean spec.databases?",
	"spec.privileged":          "did you mean spec.trust: trusted?",
	"spec.healthcheck":         "did you mean spec.probe?",
	"spec.livenessProbe":       "did you mean spec.probe?",
}

var (
	index = regexp.MustCompile(`\[[0-9]+\]`)
	// named are the fields in a habit's hint.
	named = regexp.MustCompile(`\bspec(\.[A-Za-z]+(\[\])?)+`)
)

// habit is the hint for a field that other tools have; empty: there is none, or it
// names a field that this kind does not have.
func (w *walker) habit(path string) string {
	hint := habits[index.ReplaceAllString(path, "[]")]
	root, known := typeOf(w.kind)
	for _, field := range named.FindAllString(hint, -1) {
		name := field[strings.LastIndexByte(field, '.')+1:]
		if !known || !slices.Contains(pathsOf(root, "", name), field) {
			return ""
		}
	}
	return hint
}

func (w *walker) unknownField(c cursor, key *yaml.Node, path string, t reflect.Type) {
	hint, meant := w.suggest(c, key.Value, path, t)
	if meant != "" {
		w.touched[meant] = true // that it is missing follows from the typing error
	}
	w.problem(w.at(key), ReasonUnknownField, path, "unknown field; %s", hint)
}

// suggest says what was probably meant: a habit from other tools, a sibling
// in another case or nearly so, or a field of the same name elsewhere.
func (w *walker) suggest(c cursor, name, path string, t reflect.Type) (hint, meant string) {
	if hint := w.habit(path); hint != "" {
		return hint, ""
	}
	siblings := strings.Split(fieldNames(t), ", ")
	if near := cmp.Or(Nearest(name, siblings), longer(name, siblings)); near != "" {
		meant = childPath(c.path, near, false)
		if strings.EqualFold(near, name) {
			return fmt.Sprintf("names are case-sensitive, did you mean %q?", near), meant
		}
		return fmt.Sprintf("did you mean %q?", near), meant
	}
	if root, ok := typeOf(w.kind); ok {
		if found := pathsOf(root, "", name); len(found) > 0 && len(found) <= 3 {
			return fmt.Sprintf("did you mean %s?", strings.Join(found, " or ")), ""
		}
	}
	return "known here: " + strings.Join(siblings, ", "), ""
}

// longer returns the first candidate that name begins, or that begins name:
// "sizeMax" for "size", "host" for "hostname".
func longer(name string, candidates []string) string {
	i := slices.IndexFunc(candidates, func(c string) bool {
		return len(name) > 2 && strings.HasPrefix(c, name) || len(c) > 3 && strings.HasPrefix(name, c)
	})
	if i < 0 {
		return ""
	}
	return candidates[i]
}

// pathsOf returns where in a type a field of that name is.
func pathsOf(t reflect.Type, path, name string) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		if t.Kind() == reflect.Slice {
			path += "[]"
		}
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return nil
	}
	var found []string
	for _, f := range reflect.VisibleFields(t) {
		field, ok := jsonName(f)
		if !ok {
			continue
		}
		at := childPath(path, field, false)
		if field == name {
			found = append(found, at)
		}
		found = append(found, pathsOf(f.Type, at, name)...)
	}
	return found
}

// Nearest returns the candidate that name is most probably a misspelling of, or "".
func Nearest(name string, candidates []string) string {
	const longest = 40 // a name of more characters is no misspelling of ours
	if len(name) > longest {
		return ""
	}
	best, least := "", 1+min(2, len(name)/3)
	for _, c := range candidates {
		if strings.EqualFold(c, name) {
			return c
		}
		if d := distance(strings.ToLower(name), strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	if best == "" {
		// "port" for "ports", "volume" for "volumes".
		i := slices.IndexFunc(candidates, func(c string) bool { return len(name) > 2 && c == name+"s" })
		if i >= 0 {
			best = candidates[i]
		}
	}
	return best
}

// distance is the number of characters to insert, delete, replace or swap.
func distance(a, b string) int {
	previous, row := []int(nil), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], previous[j-2]+1)
			}
		}
		previous, row = row, next
	}
	return row[len(b)]
}
