package v1alpha1

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func repository(url string) *GitSource {
	g := &GitSource{URL: url}
	g.setDefaults()
	return g
}

func TestGitSourceValidate(t *testing.T) {
	const at = "spec.sources[0].git"
	ssh := GitAuth{SSHKeyFile: "/etc/key", KnownHostsFile: "/etc/hosts.keys"}
	tests := map[string]struct {
		git  GitSource
		want []string
	}{
		"https":          {GitSource{URL: "https://example.org/team/fleet.git"}, nil},
		"token":          {GitSource{URL: "https://example.org:8443/fleet", Auth: GitAuth{TokenFile: "/etc/token"}}, nil},
		"ssh":            {GitSource{URL: "ssh://git@example.org:2222/~/fleet.git", Auth: ssh, Branch: "hosts/a-1.2", Path: "hosts/a"}, nil},
		"on this host":   {GitSource{URL: "http://127.0.0.1:3000/fleet.git"}, nil},
		"signed":         {GitSource{URL: "https://example.org/a", Verify: &GitVerify{AllowedSignersFile: "/etc/signers"}}, nil},
		"none":           {GitSource{}, []string{at + ".url: write https://HOST/PATH"}},
		"plain http":     {GitSource{URL: "http://example.org/a"}, []string{at + ".url: is not encrypted"}},
		"file":           {GitSource{URL: "file:///srv/a.git"}, []string{at + ".url: is not https"}},
		"program":        {GitSource{URL: "ext::sh -c touch% /tmp/x"}, []string{at + ".url: holds a space"}},
		"other protocol": {GitSource{URL: "git://example.org/a"}, []string{at + `.url: has the scheme "git"`}},
		"short form":     {GitSource{URL: "git@example.org:team/a.git"}, []string{at + `.url: is not https://HOST/PATH or ssh://USER@HOST/PATH; did you mean "ssh://git@example.org/team/a.git"?`}},
		"password":       {GitSource{URL: "https://me:s3cret@example.org/a"}, []string{at + ".url: must hold no user name or password"}},
		"user":           {GitSource{URL: "https://t0ken@example.org/a"}, []string{at + ".url: must hold no user name or password"}},
		"option as host": {GitSource{URL: "ssh://-oProxyCommand=x/a", Auth: ssh}, []string{at + ".url: has a name that begins with '-'"}},
		"option as user": {GitSource{URL: "ssh://-l@example.org/a", Auth: ssh}, []string{at + ".url: has a name that begins with '-'"}},
		"no repository":  {GitSource{URL: "https://example.org/"}, []string{at + ".url: must have a path"}},
		"new line":       {GitSource{URL: "https://example.org/a\nb"}, []string{at + ".url: holds a space"}},
		"no key":         {GitSource{URL: "ssh://git@example.org/a"}, []string{at + ".auth.knownHostsFile: ssh needs", at + ".auth.sshKeyFile: ssh needs"}},
		"key for https":  {GitSource{URL: "https://example.org/a", Auth: ssh}, []string{at + ".auth.knownHostsFile: is for ssh", at + ".auth.sshKeyFile: is for ssh"}},
		"token for ssh":  {GitSource{URL: "ssh://git@example.org/a", Auth: GitAuth{SSHKeyFile: "/k", KnownHostsFile: "/h", TokenFile: "/t"}}, []string{at + ".auth.tokenFile: is for https"}},
		"lone user":      {GitSource{URL: "https://example.org/a", Auth: GitAuth{Username: "me"}}, []string{at + ".auth.username: goes with a tokenFile"}},
		"relative files": {GitSource{URL: "https://example.org/a", Auth: GitAuth{TokenFile: "t"}, Verify: &GitVerify{}}, []string{at + ".auth.tokenFile: must be an absolute path", at + ".verify.allowedSignersFile: name a file"}},
		"option branch":  {GitSource{URL: "https://example.org/a", Branch: "-x"}, []string{at + ".branch: is not the name"}},
		"many branches":  {GitSource{URL: "https://example.org/a", Branch: "a*"}, []string{at + ".branch: is not the name"}},
		"range":          {GitSource{URL: "https://example.org/a", Branch: "a..b"}, []string{at + ".branch: is not the name"}},
		"lock":           {GitSource{URL: "https://example.org/a", Branch: "a.lock/b"}, []string{at + ".branch: is not the name"}},
		"refspec":        {GitSource{URL: "https://example.org/a", Branch: "a:refs/tekton/good"}, []string{at + ".branch: is not the name"}},
		"way out":        {GitSource{URL: "https://example.org/a", Path: "../x"}, []string{at + ".path: must be a path in the repository"}},
		"absolute":       {GitSource{URL: "https://example.org/a", Path: "/x"}, []string{at + ".path: must be a path in the repository"}},
		"long form":      {GitSource{URL: "https://example.org/a", Path: "x/"}, []string{at + ".path: must be a path in the repository"}},
		"too often":      {GitSource{URL: "https://example.org/a", Interval: &Duration{time.Second}}, []string{at + ".interval: must be at least 5s"}},
		"too small":      {GitSource{URL: "https://example.org/a", MaxSize: &Quantity{Bytes: 256, text: "256"}}, []string{at + ".maxSize: is 256 bytes"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := DefaultHost()
			test.git.setDefaults()
			h.Spec.Sources[0].Path, h.Spec.Sources[0].Git = "", &test.git
			matchLines(t, test.want, lines(h.Validate()))
		})
	}
}

// TestVolumeRepository: whatever a reference or address is called, it is one
// that git takes as such, or it is refused with its place.
func TestVolumeRepository(t *testing.T) {
	const at = "spec.volumes[0].repository"
	check := func(r VolumeRepository) []string {
		c := &Container{
			TypeMeta: TypeMeta{APIVersion, KindContainer}, Metadata: ObjectMeta{Name: "a"},
			Spec: ContainerSpec{System: System{Host: true}, Command: []string{"x"}, Volumes: []Volume{{Name: "src", Path: "/src", Repository: &r}}},
		}
		c.Default(nil)
		var out []string
		for _, e := range c.Validate(&HostSpec{}) {
			out = append(out, e.Field)
		}
		return out
	}
	const url = "https://example.org/team/app.git"
	for _, ref := range []string{
		"", "main", "feature/#12-a+b@c", "v1.2", "refs/pull/7/head", "HEAD", strings.Repeat("a", 240), "ünïcode", `quote'"$(id)`, "0123456789abcdef0123456789abcdef01234567", "a-b", "x@y",
	} {
		if got := check(VolumeRepository{URL: url, Ref: ref}); len(got) > 0 {
			t.Errorf("%q is refused: %q", ref, got)
		}
	}
	for _, ref := range []string{
		"-x", "--upload-pack=x", "a b", "a..b", "a\nb", "a\x00b", "a:b", "+a:b", "*", "a^", "a~1", "a@{1}", "@", ".a", "a/.b", "a.lock", "a//b", "/a", "a/", "a.", `a\b`, "a?", "[a]",
		strings.Repeat("a", 241), "a\xff", "\u202e\x1b[2J",
	} {
		if got := check(VolumeRepository{URL: url, Ref: ref}); !slices.Equal(got, []string{at + ".ref"}) {
			t.Errorf("%q: %q", ref, got)
		}
	}
	for _, url := range []string{"", "file:///etc", "http://example.org/a", "https://me:pw@example.org/a", "ext::sh", "https://example.org/team/../other/a", "https://example.org/team/%2e%2e/other", "/srv/a", "ssh://-oProxyCommand=x/a"} {
		if got := check(VolumeRepository{URL: url}); !slices.Equal(got, []string{at + ".url"}) {
			t.Errorf("%q: %q", url, got)
		}
	}
	if got := check(VolumeRepository{URL: url, Secret: "../x"}); !slices.Equal(got, []string{at + ".secret"}) {
		t.Errorf("secret: %q", got)
	}
	for user, want := range map[string]bool{"1000": true, "1000:100": true, "me": false, "-1": false, "70000": false} {
		if got := check(VolumeRepository{URL: url, User: user}); (len(got) == 0) != want {
			t.Errorf("user %q: %q", user, got)
		}
	}
}
