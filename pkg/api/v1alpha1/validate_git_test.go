package v1alpha1

import (
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
