package spec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// head is a good document up to its spec; what follows begins in line 5.
const head = "apiVersion: tekton.host/v1alpha1\nkind: Container\nmetadata: {name: web}\nspec:\n"

// good is a document that is valid whole.
const good = head + "  system: {host: true}\n  command: [sleep, inf]\n"

// repository may be called like a machine.
const repository = "apiVersion: tekton.host/v1alpha1\nkind: Repository\nmetadata: {name: web}\nspec: {url: \"https://git.example.org/team/web.git\"}\n"

func decode(text string) ([]string, []string) {
	objects, problems := Decode("f.yaml", []byte(text), Options{})
	var names, messages []string
	for _, o := range objects {
		names = append(names, o.Meta().Name)
	}
	for _, p := range problems {
		messages = append(messages, p.Error())
	}
	return names, messages
}

func TestDecodeBadInput(t *testing.T) {
	tests := map[string]struct {
		text    string
		objects []string
		want    []string
	}{
		"unknown, wrong case, duplicate and wrong types at once": {
			text: head + "  system: {host: yes}\n  Command: [sleep]\n  user: no\n  image: 1.10\n  workingDirectory: 1.10\n  user: a\n  routes:\n  - {host: a.example.org, port: \"80\"}\n",
			want: []string{
				`f.yaml:5:18: spec.system.host: must be true or false; readers of YAML disagree on yes, write true`,
				`f.yaml:6:3: spec.Command: unknown field; names are case-sensitive, did you mean "command"?`,
				`f.yaml:7:9: spec.user: must be text, not a boolean (no); write "no" in quotes`,
				`f.yaml:8:3: spec.image: unknown field; tekton runs no container images; set spec.system (host: true, rootfs or storePath)`,
				`f.yaml:9:21: spec.workingDirectory: must be text, not a number (1.10); write "1.10" in quotes`,
				`f.yaml:10:3: spec.user: is here a second time; it is already in line 7`,
				`f.yaml:12:33: spec.routes[0].port: must be a whole number, not text; remove the quotes`,
			},
		},
		"validation and decoding at once": {
			text: head + "  system: {host: true}\n  comand: [sleep]\n  volumes:\n  - {name: Data, path: data}\n",
			want: []string{
				`f.yaml:6:3: spec.comand: unknown field; did you mean "command"?`,
				`f.yaml:8:12: spec.volumes[0].name: "Data" must consist of a-z, 0-9 and '-', beginning and ending with a letter or digit; did you mean "data"?`,
				`f.yaml:8:24: spec.volumes[0].path: "data" must be an absolute path, beginning with '/'`,
			},
		},
		"field elsewhere": {
			text: good + "  hostPort: 80\n",
			want: []string{`f.yaml:7:3: spec.hostPort: unknown field; did you mean spec.network.ports[].hostPort?`},
		},
		"field nowhere": {
			text: strings.Replace(good, "{host: true}", "{host: true, kernel: x}", 1),
			want: []string{`f.yaml:5:24: spec.system.kernel: unknown field; known here: host, rootfs, storePath, flake, refresh`},
		},
		"namespace": {
			text: strings.Replace(good, "{name: web}", "{name: web, namespace: prod}", 1),
			want: []string{`f.yaml:3:23: metadata.namespace: unknown field; tekton has no namespaces: names are unique on a host; remove the line`},
		},
		"required": {
			text: head + "  user: root\n",
			want: []string{
				`f.yaml:4:1: spec.system: is required: set exactly one of host: true, rootfs, storePath, flake`,
				`f.yaml:5:9: spec.user: belongs to a command; without one the system's init boots and chooses its users`,
			},
		},
		"no spec": {
			text: "apiVersion: tekton.host/v1alpha1\nkind: Container\nmetadata: {name: web}\n",
			want: []string{`f.yaml:1:1: spec.system: is required: set exactly one of host: true, rootfs, storePath, flake`},
		},
		"empty list is none, empty text is a mistake": {
			text: good + "  routes:\n  user:\n",
			want: []string{`f.yaml:8:8: spec.user: has no value; write one, or remove the line`},
		},
		"empty item": {
			text: good + "  routes:\n  -\n",
			want: []string{`f.yaml:8:4: spec.routes[0]: has no value; write one, or remove the item`},
		},
		"command as text": {
			text: head + "  system: {host: true}\n  command: python3 -m http.server\n",
			want: []string{`f.yaml:6:12: spec.command: must be a list, not text (python3 -m http.server); write ["python3", "-m", "http.server"]`},
		},
		"number in environment is not repeated": {
			text: good + "  environment: {TOKEN: 12345}\n",
			want: []string{`f.yaml:7:24: spec.environment[TOKEN]: must be text, not a number; put the value in quotes`},
		},
		"octal, hexadecimal, zero, too large": {
			text: good + "  resources: {tasksMax: 010, cpuWeight: 0x10, ioWeight: 0}\n  network: {links: [{to: a, port: 99999999999}]}\n",
			want: []string{
				`f.yaml:7:25: spec.resources.tasksMax: must be a whole number without leading zeros; readers of YAML disagree on 010`,
				`f.yaml:7:41: spec.resources.cpuWeight: must be a whole number in digits, not a number (0x10)`,
				`f.yaml:7:57: spec.resources.ioWeight: 0 must be from 1 to 10000`,
				`f.yaml:8:35: spec.network.links[0].port: 99999999999 is out of range`,
			},
		},
		"quantity and duration": {
			text: good + "  resources: {memoryMax: 500m, memoryHigh: 512}\n  stopTimeout: 10\n",
			want: []string{
				`f.yaml:7:26: spec.resources.memoryMax: "500m" means thousandths of a byte in Kubernetes; write "500M" for megabytes`,
				`f.yaml:7:44: spec.resources.memoryHigh: "512" is 512 bytes, less than 1M; did you mean "512M"?`,
				`f.yaml:8:16: spec.stopTimeout: must be a duration with a unit such as "90s"`,
			},
		},
		"mapping for list, list for text": {
			text: good + "  routes: {host: a}\n  user: [a]\n",
			want: []string{
				`f.yaml:7:11: spec.routes: must be a list, not a mapping; begin each item with "- "`,
				`f.yaml:8:9: spec.user: must be text, not a list`,
			},
		},
		"text for mapping, no port": {
			text: good + "  routes: [{host: a.example.org}]\n  resources: 1\n---\n" + strings.Replace(head, "web", "b", 1)[:len(head)-8] + "spec: y\n",
			want: []string{
				`f.yaml:7:12: spec.routes[0].port: is required: write a number from 1 to 65535`,
				`f.yaml:8:14: spec.resources: must be a mapping of memoryMax, memoryHigh, cpuQuota, cpuWeight, ioWeight, tasksMax, diskMax, not a number (1)`,
				`f.yaml:13:7: spec: must be a mapping of system, runtime, command, user, workingDirectory, environment, volumes, databases, …, not text (y)`,
			},
		},
		"tag":                {text: good + "  user: !secret x\n", want: []string{`f.yaml:7:9: spec.user: must be text; the tag !secret is not supported`}},
		"not a mapping":      {text: "- a\n", want: []string{`f.yaml:1:1: a spec is a mapping of apiVersion, kind, metadata and spec, not a list`}},
		"plain text":         {text: "hello\n", want: []string{`f.yaml:1:1: a spec is a mapping of apiVersion, kind, metadata and spec, not text (hello)`}},
		"no kind":            {text: "metadata: {name: web}\n", want: []string{`f.yaml:1:1: apiVersion: is required: write apiVersion: tekton.host/v1alpha1`, `f.yaml:1:1: kind: is required: write kind: and one of Agent, Container, Preview, Repository`}},
		"newer version":      {text: strings.Replace(good, "v1alpha1", "v2", 1), want: []string{`f.yaml:1:13: apiVersion: "tekton.host/v2" is not known to this version of tekton, which reads tekton.host/v1alpha1; a newer spec needs a newer tekton`}},
		"unknown kind":       {text: strings.Replace(good, "Container", "Deployment", 1), want: []string{`f.yaml:2:7: kind: "Deployment" is not a kind of this version of tekton; known kinds: Agent, Container, Preview, Repository`}},
		"lower case kind":    {text: strings.Replace(good, "Container", "container", 1), want: []string{`f.yaml:2:7: kind: "container" is not a kind of this version of tekton; did you mean "Container"?`}},
		"Host":               {text: "apiVersion: tekton.host/v1alpha1\nkind: Host\n", want: []string{`f.yaml:2:7: kind: Host is the daemon's own configuration (tektond --config FILE); it has no place in a source`}},
		"tab":                {text: head + "\tsystem: {host: true}\n", want: []string{`f.yaml:5:1: not YAML: a tab indents the line; YAML takes spaces only (found character that cannot start any token)`}},
		"colon":              {text: head + "  user: a: b\n", want: []string{`f.yaml:5:3: not YAML: a ": " stands where none may, or the line is indented too far; a text that contains ": " goes in quotes (mapping values are not allowed in this context)`}},
		"indentation":        {text: good + " user: a\n  user: b\n", want: []string{`f.yaml:7:2: not YAML: the indentation fits no mapping above; align the line with its siblings (did not find expected key)`}},
		"open bracket":       {text: head + "  command: [a, b\n  user: c\n", want: []string{`f.yaml:5:3: not YAML: a bracket that opens here is not closed, or a comma is missing (did not find expected ',' or ']')`}},
		"open quote":         {text: head + "  user: 'a\n  reason: b\n", want: []string{`f.yaml:5:3: not YAML: a quote that opens here is not closed (found unexpected end of stream)`}},
		"no document start":  {text: good + "...\n" + good, objects: []string{"web"}, want: []string{`f.yaml:8:1: not YAML: after "..." a new document begins with a line "---" (did not find expected <document start>)`}},
		"unknown anchor":     {text: head + "  user: *who\n", want: []string{`f.yaml:5:9: not YAML: the alias names an anchor (&) that the document does not have before it (unknown anchor 'who' referenced)`}},
		"NUL":                {text: head + "  user: a\x00\n", want: []string{`f.yaml:5:10: a NUL character; the file is not text, or it was not written to its end`}},
		"control character":  {text: head + "  user: \x1b[31m\n", want: []string{`f.yaml:5:9: character U+001B has no place in YAML; write it as an escape in double quotes`}},
		"escaped control":    {text: good + "  user: \"a\\x1b\"\n  reason: \"\\N\"\n", want: []string{`f.yaml:7:9: spec.user: holds the control character U+001B; a spec is text`, `f.yaml:8:11: spec.reason: holds the control character U+0085; a spec is text`}},
		"Latin-1":            {text: head + "  user: \xe4\n", want: []string{`f.yaml:5:9: byte 0xe4 is not UTF-8; save the file as UTF-8`}},
		"UTF-16":             {text: "\xff\xfea\x00", want: []string{`f.yaml:1:1: the file is UTF-16; save it as UTF-8`}},
		"empty file":         {text: "", want: []string{`f.yaml:1:1: the file is empty; delete it if nothing is wanted, as an empty file may be one that was not written to its end`}},
		"comments only":      {text: "# off\n---\n%YAML 1.2\n---\n# off\n"},
		"BOM, CRLF and CR":   {text: "\xef\xbb\xbf" + strings.ReplaceAll(good, "\n", "\r\n"), objects: []string{"web"}},
		"position after BOM": {text: "\xef\xbb\xbf- a\r\n", want: []string{`f.yaml:1:1: a spec is a mapping of apiVersion, kind, metadata and spec, not a list`}},
		"directive":          {text: "%YAML 1.2\n---\n" + good, objects: []string{"web"}},
		"a broken document hides no other": {
			text:    good + "---\n" + strings.Replace(head, "web", "b", 1) + "  user: [\n---\n" + strings.Replace(good, "web", "c", 1) + "...\n---\n" + strings.Replace(good, "web", "d", 1),
			objects: []string{"web", "c", "d"},
			want:    []string{`f.yaml:12:3: not YAML: a value is missing, or begins with a character that has a meaning in YAML; put it in quotes (did not find expected node content)`},
		},
		"duplicate names": {
			text: good + "---\n" + good, objects: []string{"web"},
			want: []string{`f.yaml:10:18: metadata.name: "web" is already the name of the object at f.yaml:3:18; names are unique across all kinds that run a machine, and among Repositories`},
		},
		"a Repository of a machine's name": {
			text: good + "---\n" + repository + "---\n" + repository, objects: []string{"web", "web"},
			want: []string{`f.yaml:15:18: metadata.name: "web" is already the name of the object at f.yaml:10:18; names are unique across all kinds that run a machine, and among Repositories`},
		},
		"anchors and merges": {
			text:    head + "  system: {host: true}\n  command: [sleep, inf]\n  routes:\n  - &r {host: a.example.org, port: 80}\n  - {<<: *r, path: /b}\n  - {<<: [*r], port: 81, path: /c}\n",
			objects: []string{"web"},
		},
		"merge of text": {text: good + "  resources: {<<: x}\n", want: []string{`f.yaml:7:19: spec.resources: << merges a mapping, or a list of them`}},
		"alias to itself": {
			text: head + "  system: {host: true}\n  command: &a [sleep, *a]\n",
			want: []string{`f.yaml:6:12: spec.command[1]: must be text, not a list`},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			objects, got := decode(test.text)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.objects, objects); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDecodeHints: what people write who know other tools, and what they are told.
func TestDecodeHints(t *testing.T) {
	for text, want := range map[string]string{
		"memory: 1G":                     `spec.memory: unknown field; did you mean spec.resources.memoryMax?`,
		"hostname: shop":                 `spec.hostname: unknown field; the machine's own is the object's name; the one that others ask for is spec.routes[].host`,
		"restart: always":                `spec.restart: unknown field; did you mean "restartPolicy"?`,
		"resources: {memory: 1G}":        `spec.resources.memory: unknown field; did you mean "memoryMax"?`,
		"resources: {cpuQuota: \"1.5\"}": `spec.resources.cpuQuota: "1.5" must be a percentage of one CPU such as "150%" (one and a half CPUs); for 1.5 CPUs write "150%"`,
		"ttl: 2d":                        `spec.ttl: "2d" is not a duration such as "90s"; write "48h"`,
		"ttl: 1w":                        `spec.ttl: "1w" is not a duration such as "90s"; its units are h, m and s`,
		"databases: [main]":              `spec.databases[0]: must be a mapping of name, env, extensions, template, deletionPolicy, not text (main); write {name: main}`,
		"volumes: [/data]":               `spec.volumes[0]: must be a mapping of name, path, sizeMax, deletionPolicy, repository, not text (/data)`,
		"databases: {name: main}":        `spec.databases: must be a list, not a mapping; begin each item with "- "`,
		"environment: [{name: A}]":       `spec.environment: must be a mapping (NAME: text), not a list; write NAME: text in each line, without "-"`,
		"credentials: [{name: token, secret: t, value: s3cret}]":       `spec.credentials[0].value: unknown field; a spec holds no secrets; keep it with: tekton secret set NAME, and write secret: NAME here`,
		"routes: [{domain: a.example.org, host: a.b, port: 1}]":        `spec.routes[0].domain: unknown field; did you mean "host"?`,
		"routes: [{hostname: a.example.org, port: 80}]":                `spec.routes[0].hostname: unknown field; did you mean "host"?`,
		"routes: [{host: \"https://A.example.org:8080/x\", port: 80}]": `spec.routes[0].host: "https://A.example.org:8080/x" is not a DNS name in lower case such as www.example.org; did you mean "a.example.org"?`,
		"routes: [{host: a.example.org, port: 80800}]":                 `spec.routes[0].port: 80800 must be from 1 to 65535`,
	} {
		_, got := decode(good + "  " + text + "\n")
		for i := range got {
			_, got[i], _ = strings.Cut(got[i], " ")
		}
		if diff := cmp.Diff([]string{want}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	for text, want := range map[string]string{
		strings.Replace(good, "kind:", "Kind:", 1):                             `f.yaml:2:1: kind: is required: write kind: and one of Agent, Container, Preview, Repository`,
		strings.Replace(good, "tekton.host/v1alpha1", "v1", 1):                 `f.yaml:1:13: apiVersion: "v1" is not tekton's; write apiVersion: tekton.host/v1alpha1`,
		strings.Replace(good, "{host: true}", "{image: \"example/app:1\"}", 1): `f.yaml:5:12: spec.system.image: unknown field; tekton runs no container images; set spec.system (host: true, rootfs or storePath)`,
	} {
		if _, got := decode(text); len(got) != 1 || got[0] != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestDecodeLimits(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString(head + "  command: &a0 [x, x, x, x, x, x, x, x, x, x]\n  environment:\n")
	for i := range 9 {
		fmt.Fprintf(&bomb, "    A%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i+1, i, i, i, i, i, i, i, i, i)
	}
	mergeBomb := head + "  routes:\n  - &a {host: a, port: 1}\n" + strings.Repeat("  - {<<: [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]}\n", 1000)
	tests := map[string]struct {
		text string
		want string // part of a message
	}{
		"10 MB":          {strings.Repeat("# comment\n", 1<<20), "more than 1048576 bytes"},
		"alias bomb":     {bomb.String(), "must be text, not a list"},
		"merge bomb":     {mergeBomb, "aliases expand to more than 10000 values"},
		"deep flow":      {head + "  command: " + strings.Repeat("[", 5000), "not YAML"},
		"deep closed":    {head + "  command: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "must be text, not a list"},
		"many documents": {strings.Repeat("---\nkind: x\n", 1001), "more problems from here on"},
		"many fields":    {head + strings.Repeat("  x: 1\n", 500), "more problems from here on"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, got := decode(test.text)
			if !strings.Contains(strings.Join(got, "\n"), test.want) {
				t.Errorf("no problem contains %q:\n%.2000s", test.want, strings.Join(got, "\n"))
			}
			if len(got) > MaxProblems+1 {
				t.Errorf("%d problems", len(got))
			}
		})
	}
}

// TestDecodeHalfWritten cuts a file at every byte: whatever was written so far
// is answered with problems that have a position, and an object that is not
// the whole one can only be one that is valid by itself.
func TestDecodeHalfWritten(t *testing.T) {
	text := good + "  routes:\n  - host: web.example.org\n    port: 80\n---\n" + strings.Replace(good, "web", "api", 1)
	for end := range len(text) {
		objects, problems := Decode("f.yaml", []byte(text[:end]), Options{})
		for _, p := range problems {
			checkPosition(t, p, text[:end])
			if p.Name != "" && p.Reason == ReasonParseError && p.Name != "web" && p.Name != "api" {
				t.Errorf("cut at %d: a problem of %q, which nobody wrote", end, p.Name)
			}
		}
		for _, o := range objects {
			if name := o.Meta().Name; name != "web" && name != "api" {
				t.Errorf("cut at %d: object %q", end, name)
			}
		}
	}
}

func checkPosition(t *testing.T, p Problem, text string) {
	t.Helper()
	lines := strings.Count(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text), "\n") + 1
	// NEL, LS and PS break lines for YAML alone.
	lines += strings.Count(text, "\u0085") + strings.Count(text, "\u2028") + strings.Count(text, "\u2029")
	if p.File == "" || p.Line < 1 || p.Line > lines || p.Column < 1 || p.Message == "" || p.Reason == "" {
		t.Errorf("problem without a place in %d lines: %#v", lines, p)
	}
}

func TestProblemKnowsItsObject(t *testing.T) {
	tests := map[string]struct{ text, kind, name string }{
		"decoded":       {good + "  x: 1\n", "Container", "web"},
		"broken":        {"apiVersion: a\nkind: Container # c\nmetadata:\n  # c\n  labels:\n    name: no\n  name: \"web\"\nspec: [\n", "Container", "web"},
		"half a name":   {"kind: Container\nmetadata:\n  x: [\n  name: we", "Container", ""},
		"name of else":  {"kind: Container\nspec:\n  name: no\n  x: [\n", "Container", ""},
		"unknown kinds": {strings.Replace(good, "Container", "Workspace", 1), "Workspace", "web"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, problems := Decode("f.yaml", []byte(test.text), Options{})
			if len(problems) != 1 {
				t.Fatalf("problems: %v", problems)
			}
			got := []string{problems[0].Kind, problems[0].Name}
			if diff := cmp.Diff([]string{test.kind, test.name}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestObjectKnowsItsFields(t *testing.T) {
	objects, problems := Decode("f.yaml", []byte("# c\n---\n"+good+"  routes:\n  - host: a.example.org\n    port: 80\n"), Options{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for path, want := range map[string]string{
		"":                      "f.yaml:3:1",
		"spec":                  "f.yaml:6:1",
		"spec.routes[0].host":   "f.yaml:10:11",
		"spec.routes[0].path":   "f.yaml:10:5",
		"spec.routes[1]":        "f.yaml:9:3",
		"spec.network.links[0]": "f.yaml:6:1",
	} {
		if got := objects[0].FieldPosition(path).String(); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	if got := (Object{Object: objects[0].Object, Position: Position{File: "x"}}).FieldPosition("spec").String(); got != "x" {
		t.Errorf("an object that was not decoded: %s", got)
	}
}

func TestDecodeHost(t *testing.T) {
	tests := map[string]struct {
		text string
		want []string
	}{
		"least":     {"apiVersion: tekton.host/v1alpha1\nkind: Host\n", nil},
		"empty":     {"# nothing\n", []string{"h.yaml:1:1: holds no document; write apiVersion: tekton.host/v1alpha1 and kind: Host, everything else has a default"}},
		"container": {good, []string{`h.yaml:2:7: kind: "Container" is not Host: this file configures the daemon; specs go into the directory of a source`}},
		"two":       {"apiVersion: tekton.host/v1alpha1\nkind: Host\n---\napiVersion: tekton.host/v1alpha1\nkind: Host\n", []string{"h.yaml:1:1: holds more than one Host; a daemon has one"}},
		"allow nothing by accident": {"apiVersion: tekton.host/v1alpha1\nkind: Host\nspec:\n  sources:\n  - name: a\n    path: /a\n    allow:\n",
			[]string{"h.yaml:7:11: spec.sources[0].allow: has no value; write one, or remove the line"}},
		"values": {"apiVersion: tekton.host/v1alpha1\nkind: Host\nspec:\n  instance: demo1\n  subnet: 8.8.0.0/16\n  ingress: {htpPort: 80}\n", []string{
			`h.yaml:4:13: spec.instance: "demo1" must be 1 to 4 characters a-z and 0-9, the last one a letter: names of links and units are made of it`,
			`h.yaml:5:11: spec.subnet: "8.8.0.0/16" must lie in a private network (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10): machines could not reach the real owners of the addresses`,
			`h.yaml:6:13: spec.ingress.htpPort: unknown field; did you mean "httpPort"?`,
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h, problems := DecodeHost("h.yaml", []byte(test.text))
			var got []string
			for _, p := range problems {
				got = append(got, p.Error())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if (h == nil) != (len(problems) > 0) {
				t.Errorf("host %v with %d problems", h, len(problems))
			}
		})
	}
}
