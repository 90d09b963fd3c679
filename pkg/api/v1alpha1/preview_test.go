package v1alpha1

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func preview(edit func(*PreviewSpec)) *Preview {
	p := &Preview{Metadata: ObjectMeta{Name: "shop"}, Spec: PreviewSpec{Repository: PreviewRepository{URL: "https://example.org/team/shop.git"}, Branch: "main", Host: "shop.preview.test"}}
	if edit != nil {
		edit(&p.Spec)
	}
	p.Default(nil)
	return p
}

func TestPreviewValidate(t *testing.T) {
	commit := strings.Repeat("0123456789", 4)
	for name, tt := range map[string]struct {
		edit func(*PreviewSpec)
		want string // part of the one problem; "": none
	}{
		"plain":              {nil, ""},
		"pull request":       {func(s *PreviewSpec) { s.Branch, s.PullRequest = "", 7 }, ""},
		"commit":             {func(s *PreviewSpec) { s.Branch, s.Commit = "", commit }, ""},
		"held":               {func(s *PreviewSpec) { s.Commit = commit }, ""},
		"grants":             {func(s *PreviewSpec) { s.Grants.Secrets = []PreviewSecret{{Name: "KEY"}} }, ""},
		"both":               {func(s *PreviewSpec) { s.PullRequest = 7 }, "spec.pullRequest: Forbidden: and branch are both set"},
		"neither":            {func(s *PreviewSpec) { s.Branch = "" }, "spec.branch: Required"},
		"short commit":       {func(s *PreviewSpec) { s.Commit = "0123456" }, "spec.commit"},
		"no repository":      {func(s *PreviewSpec) { s.Repository.URL = "" }, "spec.repository: Required"},
		"file":               {func(s *PreviewSpec) { s.Repository.URL = "file:///etc" }, "spec.repository.url"},
		"password":           {func(s *PreviewSpec) { s.Repository.URL = "https://me:pw@example.org/a" }, "spec.repository.url: Forbidden"},
		"odd secret":         {func(s *PreviewSpec) { s.Repository.Secret = "../x" }, "spec.repository.secret"},
		"config above":       {func(s *PreviewSpec) { s.Config = "../preview.yaml" }, "spec.config"},
		"config from root":   {func(s *PreviewSpec) { s.Config = "/etc/passwd" }, "spec.config"},
		"config with spaces": {func(s *PreviewSpec) { s.Config = "a b" }, "spec.config"},
		"Nix":                {func(s *PreviewSpec) { s.Config = "deploy/preview-config.nix" }, "is code, which this host does not evaluate"},
		"token":              {func(s *PreviewSpec) { s.Repository.Secret, s.Grants.RepositoryToken = "x", true }, ""},
		"no token":           {func(s *PreviewSpec) { s.Grants.RepositoryToken = true }, "spec.grants.repositoryToken: Forbidden"},
		"key as a token": {func(s *PreviewSpec) {
			s.Repository = PreviewRepository{URL: "ssh://git@example.org/a", Secret: "x"}
			s.Grants.RepositoryToken = true
		}, "spec.grants.repositoryToken: Forbidden"},
		"no host":        {func(s *PreviewSpec) { s.Host = "" }, "spec.host: Required"},
		"odd host":       {func(s *PreviewSpec) { s.Host = "a_b.test" }, "spec.host"},
		"wild host":      {func(s *PreviewSpec) { s.Host = "*.test" }, "spec.host"},
		"long host":      {func(s *PreviewSpec) { s.Host = strings.Repeat("a", 41) + ".test" }, "spec.host"},
		"variable":       {func(s *PreviewSpec) { s.Grants.Variables = map[string]string{"A-B": "x"} }, "spec.grants.variables[A-B]"},
		"own variable":   {func(s *PreviewSpec) { s.Grants.Variables = map[string]string{"PREVIEW_URL": "x"} }, "is set by tekton"},
		"NUL":            {func(s *PreviewSpec) { s.Grants.Variables = map[string]string{"A": "x\x00"} }, "NUL"},
		"twice":          {func(s *PreviewSpec) { s.Grants.Secrets = []PreviewSecret{{Name: "A"}, {Name: "A"}} }, "spec.grants.secrets[1].name: Duplicate"},
		"template":       {func(s *PreviewSpec) { s.Database.Template = "shop_template-1.0" }, ""},
		"seed":           {func(s *PreviewSpec) { s.Database.Seed = &PreviewSetup{Command: []string{"psql", "-f", "seed.sql"}} }, ""},
		"odd seed":       {func(s *PreviewSpec) { s.Database.Seed = &PreviewSetup{Command: []string{"psql -f seed.sql"}} }, "spec.database.seed.command[0]"},
		"odd template":   {func(s *PreviewSpec) { s.Database.Template = "shop; drop" }, "spec.database.template"},
		"all egress":     {func(s *PreviewSpec) { s.Egress.Mode = "all" }, "spec.egress.mode: Forbidden"},
		"fork":           {func(s *PreviewSpec) { s.Fork = true }, "spec.fork: Forbidden"},
		"short ttl":      {func(s *PreviewSpec) { s.TTL = &Duration{time.Second} }, "spec.ttl"},
		"no TLS":         {func(s *PreviewSpec) { s.TLS = "files" }, "spec.tls"},
		"private egress": {func(s *PreviewSpec) { s.Egress.Allow = []string{"192.168.1.1"} }, "spec.egress.allow[0]"},
		"short sleep":    {func(s *PreviewSpec) { s.SleepAfter = &Duration{time.Second} }, "spec.sleepAfter"},
		"sleep":          {func(s *PreviewSpec) { s.SleepAfter = &Duration{time.Hour} }, ""},
	} {
		errs := preview(tt.edit).Validate(nil)
		if tt.want == "" && len(errs) == 0 || len(errs) == 1 && tt.want != "" && strings.Contains(errs[0].Error(), tt.want) {
			continue
		}
		t.Errorf("%s: %v, want %q", name, errs, tt.want)
	}
}

// TestPreviewBranch: what git calls a branch may have a preview, whatever it
// holds; what it does not is refused before anybody sees it as an argument.
func TestPreviewBranch(t *testing.T) {
	for _, good := range []string{"feat/it's", `a"b`, "$HOME", "ünï", "a`b`", strings.Repeat("x", 200), "a;b&c|d", "#1", "%s", "HEAD"} {
		if errs := preview(func(s *PreviewSpec) { s.Branch = good }).Validate(nil); len(errs) > 0 {
			t.Errorf("%q: %v", good, errs)
		}
	}
	for _, bad := range []string{"-rf", "--upload-pack=x", "a b", "a\nb", "a\x1b[2J", "a..b", "a~1", "refs/../x", ".a", "a/", strings.Repeat("x", 300), "\xff"} {
		if errs := preview(func(s *PreviewSpec) { s.Branch = bad }).Validate(nil); len(errs) != 1 || errs[0].Field != "spec.branch" {
			t.Errorf("%q: %v", bad, errs)
		}
	}
}

// TestPreviewRef: a commit comes before what is followed.
func TestPreviewRef(t *testing.T) {
	for want, s := range map[string]PreviewSpec{
		"refs/heads/main": {Branch: "main"}, "refs/pull/7/head": {PullRequest: 7}, "abc": {Branch: "main", Commit: "abc"},
	} {
		if got := s.Ref(); got != want {
			t.Errorf("%+v: %s, want %s", s, got, want)
		}
	}
}

func TestHostPreviews(t *testing.T) {
	h := DefaultHost()
	if got := fmt.Sprint(h.Spec.Previews.Systems); got != "[{host {true    <nil>}}]" {
		t.Errorf("by default the bases are %s", got)
	}
	h.Spec.Previews = PreviewsConfig{Domain: "a_b", Systems: []PreviewSystem{{Name: "A", System: System{Host: true}}, {Name: "b"}, {Name: "b", System: System{RootFS: "/srv/b"}}}, Nix: &PreviewsNix{Flake: "here", Refresh: &Duration{1}}}
	var fields []string
	for _, e := range h.Validate() {
		fields = append(fields, e.Field)
	}
	if got := strings.Join(fields, " "); got != "spec.previews.domain spec.previews.systems[0].name spec.previews.systems[1].system spec.previews.systems[2].name spec.previews.nix.flake spec.previews.nix.refresh" {
		t.Errorf("wrong are %s", got)
	}
}
