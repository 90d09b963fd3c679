package spec

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
)

func jsonOf(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const greedy = `apiVersion: tekton.host/v1alpha1
kind: Container
metadata: {name: web}
spec:
  trust: trusted
  system: {rootfs: /srv/roots/web}
  credentials: [{name: token}, {name: key, secret: master}]
  mounts: [{hostPath: /srv/shared/x, path: /x}]
  routes:
  - {host: a.preview.example.org, port: 80}
  - {host: a.b.preview.example.org, port: 80}
  network:
    links: [{to: cache, port: 1}]
    ports: [{hostPort: 8443, hostIP: 0.0.0.0}]
`

func TestAdmit(t *testing.T) {
	tests := map[string]struct {
		allow *v1alpha1.Admission
		want  []string
	}{
		"the operator's own": {nil, nil},
		"nothing": {&v1alpha1.Admission{Kinds: []string{"Preview"}, MaxTrust: "untrusted"}, []string{
			`f.yaml:2:7: kind: Container is not admitted from this source, only Preview`,
			`f.yaml:5:10: spec.trust: "trusted" is more trust than the source may give (allow.maxTrust is untrusted)`,
			`f.yaml:6:20: spec.system.rootfs: "/srv/roots/web" is not a path of the host that the source may use (allow.hostPaths is empty)`,
			`f.yaml:7:24: spec.credentials[0].name: "token" is not a secret that the source may use (its allow.secrets does not name it)`,
			`f.yaml:7:52: spec.credentials[1].secret: "master" is not a secret that the source may use (its allow.secrets does not name it)`,
			`f.yaml:8:23: spec.mounts[0].hostPath: "/srv/shared/x" is not a path of the host that the source may use (allow.hostPaths is empty)`,
			`f.yaml:10:12: spec.routes[0].host: "a.preview.example.org" is not a host name that the source may use (allow.domains is empty)`,
			`f.yaml:11:12: spec.routes[1].host: "a.b.preview.example.org" is not a host name that the source may use (allow.domains is empty)`,
			`f.yaml:13:18: spec.network.links[0].to: "cache" is not an object that the source may link to (allow.linkTargets is empty)`,
			`f.yaml:14:24: spec.network.ports[0].hostPort: "8443" is not a port of the host that the source may publish (allow.hostPorts is empty)`,
		}},
		"some": {&v1alpha1.Admission{MaxTrust: "trusted", Domains: []string{"*.preview.example.org"}, LinkTargets: []string{"cache"}, Secrets: []string{"token"}, HostPaths: []string{"/srv/roots"}, HostPorts: []string{"25", "8000-8999"}}, []string{
			`f.yaml:7:52: spec.credentials[1].secret: "master" is not a secret that the source may use (its allow.secrets does not name it)`,
			`f.yaml:8:23: spec.mounts[0].hostPath: "/srv/shared/x" is not a path of the host that the source may use (allow.hostPaths: /srv/roots)`,
			`f.yaml:11:12: spec.routes[1].host: "a.b.preview.example.org" is not a host name that the source may use (allow.domains: *.preview.example.org)`,
		}},
		"all by name": {&v1alpha1.Admission{MaxTrust: "trusted", Domains: []string{"*.preview.example.org", "*.b.preview.example.org"}, LinkTargets: []string{"*"}, Secrets: []string{"*"}, HostPaths: []string{"/srv/"}, HostPorts: []string{"1-65535"}}, nil},
	}
	objects, problems := Decode("f.yaml", []byte(greedy), Options{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, p := range Admit(objects[0], test.allow) {
				got = append(got, p.Error())
				if p.Reason != ReasonSourcePolicy || p.Name != "web" || p.Kind != "Container" {
					t.Errorf("problem %#v", p)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
