package v1alpha1

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

func TestDefaultsTable(t *testing.T) {
	for _, kind := range []string{KindAgent, KindContainer, KindPreview, KindRepository, KindHost} {
		var b strings.Builder
		for _, r := range DefaultsTable(kind) {
			fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("%-32s %-24s %s", r.Field, r.Default, r.Note), " "))
		}
		golden := filepath.Join("testdata", "defaults-"+strings.ToLower(kind)+".txt")
		if *update {
			if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), b.String()); diff != "" {
			t.Errorf("%s: defaults differ from %s; go test -update writes it (-want +got):\n%s", kind, golden, diff)
		}
	}
	if rows := DefaultsTable("Unknown"); rows != nil {
		t.Errorf("an unknown kind has defaults: %v", rows)
	}
}

func TestDefaultNotesAreUsed(t *testing.T) {
	for kind, notes := range defaultNotes {
		rows := map[string]bool{}
		for _, r := range DefaultsTable(kind) {
			rows[r.Field] = true
		}
		for name := range notes {
			if !rows[name] {
				t.Errorf("%s: the note on %s belongs to no default", kind, name)
			}
		}
	}
}

func TestContainerDefaultIsIdempotent(t *testing.T) {
	for i, c := range append(containerSamples(), full(), &Container{}) {
		c.Default(nil)
		once := toJSON(t, c)
		c.Default(nil)
		if diff := cmp.Diff(once, toJSON(t, c)); diff != "" {
			t.Errorf("sample %d (-once +twice):\n%s", i, diff)
		}
	}
}

func TestHostDefaultIsIdempotent(t *testing.T) {
	for _, h := range []*Host{{}, {Spec: HostSpec{Instance: "demo", Ingress: IngressConfig{HTTPSPort: new(0)}}}} {
		h.Default()
		once := toJSON(t, h)
		h.Default()
		if diff := cmp.Diff(once, toJSON(t, h)); diff != "" {
			t.Errorf("(-once +twice):\n%s", diff)
		}
		if errs := h.Validate(); len(errs) > 0 {
			t.Errorf("a defaulted host is not valid: %v", errs)
		}
	}
}

func TestHostDefaultsOfInstancesDoNotCollide(t *testing.T) {
	plain, demo := DefaultHost().Spec, Host{Spec: HostSpec{Instance: "demo"}}
	demo.Default()
	got := []string{demo.Spec.StateDir, demo.Spec.RunDir, demo.Spec.SecretsDir, demo.Spec.Subnet, demo.Spec.Sources[0].Path}
	for i, other := range []string{plain.StateDir, plain.RunDir, plain.SecretsDir, plain.Subnet, plain.Sources[0].Path} {
		if got[i] == other {
			t.Errorf("both have %s", other)
		}
	}
	moved := Host{Spec: HostSpec{StateDir: "/srv/tekton"}}
	moved.Default()
	if diff := cmp.Diff([]string{"/srv/tekton/secrets", "/srv/tekton/specs"}, []string{moved.Spec.SecretsDir, moved.Spec.Sources[0].Path}); diff != "" {
		t.Errorf("a moved state directory (-want +got):\n%s", diff)
	}
}

func TestContainerDefaultsFollowTheHost(t *testing.T) {
	h := Host{Spec: HostSpec{PublishAddress: "192.0.2.1", Ingress: IngressConfig{HTTPSPort: new(0)}}}
	h.Default()
	c := full()
	c.Spec.Network.Ports[0].HostIP = ""
	c.Default(&h.Spec)
	if got := c.Spec.Routes[0].TLS; got != "off" {
		t.Errorf("tls of a host without TLS: %s", got)
	}
	if got := c.Spec.Network.Ports[0].HostIP; got != "192.0.2.1" {
		t.Errorf("hostIP: %s", got)
	}
}

func TestDurationIsWrittenShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		72 * time.Hour: "72h", 5 * time.Minute: "5m", 90 * time.Second: "1m30s", 0: "0s", time.Hour + time.Second: "1h0m1s", 200 * time.Millisecond: "200ms",
	} {
		if got := (Duration{d}).String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// full is a valid container with one of everything that an untrusted object may have.
func full() *Container {
	return &Container{
		Metadata: ObjectMeta{Name: "web", Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"example.org/note": "x"}},
		Spec: ContainerSpec{
			System:      System{Host: true},
			Command:     []string{"/bin/sh", "-c", "exec sleep inf"},
			Environment: map[string]string{"PORT": "8080"},
			Volumes:     []Volume{{Name: "data", Path: "/data", SizeMax: &Quantity{Bytes: 1 << 30, text: "1G"}}},
			Databases:   []Database{{Name: "main", Extensions: []string{"pg_trgm"}}, {Name: "old"}},
			Credentials: []Credential{{Name: "token"}, {Name: "key", Env: "KEY"}},
			Routes:      []Route{{Host: "web.example.org", Port: 8080}, {Host: "*.web.example.org", Path: "/api", PathType: "Exact", Port: 8081, StripPrefix: true}},
			Network: Network{
				Egress: Egress{Mode: "none", Allow: []string{"1.1.1.1", "9.9.9.0/24:53/udp"}},
				Links:  []NetworkLink{{To: "cache", Port: 6379}},
				Ports:  []Port{{HostPort: 2222, HostIP: "0.0.0.0"}},
			},
			Resources: Resources{MemoryMax: &Quantity{Bytes: 1 << 29, text: "512M"}, CPUQuota: "150%", CPUWeight: 100, TasksMax: 50},
			Probe:     &Probe{HTTP: &HTTPProbe{Port: 8080}},
			DependsOn: []string{"cache"},
			Placement: Placement{Host: "host-1"},
		},
	}
}
