package v1alpha1

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func shopRepository(edit func(*RepositorySpec)) *Repository {
	r := &Repository{Metadata: ObjectMeta{Name: "shop"}, Spec: RepositorySpec{URL: "https://example.org/team/shop.git"}}
	if edit != nil {
		edit(&r.Spec)
	}
	r.Default(nil)
	return r
}

func TestRepositoryValidate(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(*RepositorySpec)
		want string // part of the one problem; "": none
	}{
		"plain":          {nil, ""},
		"all":            {fullRepository, ""},
		"no url":         {func(s *RepositorySpec) { s.URL = "" }, "spec.url: Required"},
		"password":       {func(s *RepositorySpec) { s.URL = "https://me:pw@example.org/a" }, "spec.url: Forbidden"},
		"odd secret":     {func(s *RepositorySpec) { s.Secret = "../x" }, "spec.secret"},
		"odd base":       {func(s *RepositorySpec) { s.PullRequests.Bases = []string{"a..b"} }, "spec.pullRequests.bases[0]"},
		"empty base":     {func(s *RepositorySpec) { s.PullRequests.Bases = []string{"main", ""} }, "spec.pullRequests.bases[1]"},
		"base twice":     {func(s *RepositorySpec) { s.PullRequests.Bases = []string{"main", "main"} }, "spec.pullRequests.bases[1]: Duplicate"},
		"long label":     {func(s *RepositorySpec) { s.PullRequests.Label = strings.Repeat("ü", 51) }, "spec.pullRequests.label"},
		"label of lines": {func(s *RepositorySpec) { s.PullRequests.Label = "a\nb" }, "spec.pullRequests.label"},
		"odd trigger":    {func(s *RepositorySpec) { s.PullRequests.Trigger = "open" }, `did you mean "Open"?`},
		"odd forks":      {func(s *RepositorySpec) { s.PullRequests.Forks = "Always" }, "spec.pullRequests.forks"},
		"negative":       {func(s *RepositorySpec) { s.PullRequests.Max = -1 }, "spec.pullRequests.max"},
		"config above":   {func(s *RepositorySpec) { s.Preview.Config = "../x" }, "spec.preview.config"},
		"odd TLS":        {func(s *RepositorySpec) { s.Preview.TLS = "on" }, "spec.preview.tls"},
		"own variable":   {func(s *RepositorySpec) { s.Preview.Grants.Variables = map[string]string{"PREVIEW_URL": "x"} }, "spec.preview.grants.variables"},
		"twice":          {func(s *RepositorySpec) { s.Preview.Grants.Secrets = []PreviewSecret{{Name: "A"}, {Name: "A"}} }, "spec.preview.grants.secrets[1].name: Duplicate"},
		"small":          {func(s *RepositorySpec) { s.Preview.Resources.CPUQuota = "x" }, "spec.preview.resources.cpuQuota"},
		"all egress":     {func(s *RepositorySpec) { s.Preview.Egress.Mode = "all" }, "spec.preview.egress.mode: Forbidden"},
		"private egress": {func(s *RepositorySpec) { s.Preview.Egress.Allow = []string{"10.1.1.1"} }, "spec.preview.egress.allow[0]"},
		"short ttl":      {func(s *RepositorySpec) { s.Preview.TTL = &Duration{time.Second} }, "spec.preview.ttl"},
		"endless":        {func(s *RepositorySpec) { s.Preview.TTL = &Duration{} }, ""},
	} {
		errs := shopRepository(tt.edit).Validate(nil)
		if tt.want == "" && len(errs) == 0 || len(errs) == 1 && tt.want != "" && strings.Contains(errs[0].Error(), tt.want) {
			continue
		}
		t.Errorf("%s: %v, want %q", name, errs, tt.want)
	}
}

func fullRepository(s *RepositorySpec) {
	*s = RepositorySpec{
		URL: "ssh://git@example.org/team/shop.git", Secret: "shop-key",
		PullRequests: PullRequestPolicy{Bases: []string{"main", "release/*", "*"}, Label: "show me", Trigger: TriggerComment, Drafts: true, Forks: ForksApproved, Max: 3},
		Preview: PreviewTemplate{
			Config: "deploy/preview.yaml", TLS: "off", Database: PreviewDatabase{Template: "golden", DeletionPolicy: "Retain"},
			Grants:    PreviewGrants{Secrets: []PreviewSecret{{Name: "KEY"}}, Variables: map[string]string{"MODE": "x"}},
			Resources: Resources{TasksMax: 10}, Egress: Egress{Mode: "none"}, TTL: &Duration{time.Hour}, SleepAfter: &Duration{time.Hour},
		},
	}
}

// TestPreviewOfRepository: with a name a preview says nothing of what the
// Repository says, each field of the template included.
func TestPreviewOfRepository(t *testing.T) {
	named := func(edit func(*PreviewSpec)) []string {
		p := &Preview{Metadata: ObjectMeta{Name: "shop-7"}, Spec: PreviewSpec{Repository: PreviewRepository{Name: "shop"}, PullRequest: 7, Host: "shop-7.preview.test"}}
		if edit != nil {
			edit(&p.Spec)
		}
		p.Default(nil)
		var fields []string
		for _, e := range p.Validate(nil) {
			fields = append(fields, e.Field)
		}
		return fields
	}
	if got := named(nil); len(got) > 0 {
		t.Errorf("plain: %v", got)
	}
	if got := named(func(s *PreviewSpec) { s.Fork, s.Rebuild, s.Enabled = true, 2, new(false) }); len(got) > 0 {
		t.Errorf("of a fork: %v", got)
	}
	if got := named(func(s *PreviewSpec) { s.Repository.URL, s.Repository.Secret = "https://example.org/a", "key" }); !slices.Equal(got, []string{"spec.repository.url", "spec.repository.secret"}) {
		t.Errorf("name, url and secret: %v", got)
	}
	if got := named(func(s *PreviewSpec) { s.Repository.Name = "Shop" }); !slices.Equal(got, []string{"spec.repository.name"}) {
		t.Errorf("odd name: %v", got)
	}
	full := shopRepository(fullRepository).Spec.Preview
	for f, value := range reflect.ValueOf(full).Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if value.IsZero() {
			t.Errorf("the example lacks %s", name)
		}
		got := named(func(s *PreviewSpec) { reflect.ValueOf(&s.PreviewTemplate).Elem().FieldByIndex(f.Index).Set(value) })
		if !slices.Equal(got, []string{"spec." + name}) {
			t.Errorf("%s beside repository.name: %v", name, got)
		}
	}
}

// TestGiven: a preview has what the Repository says and keeps what it says itself.
func TestGiven(t *testing.T) {
	r := shopRepository(fullRepository)
	p := &Preview{Metadata: ObjectMeta{Name: "shop-7"}, Spec: PreviewSpec{Repository: PreviewRepository{Name: "shop"}, PullRequest: 7, Host: "shop-7.preview.test", Rebuild: 2}}
	p.Default(nil)
	before := toJSON(t, p)
	given, err := r.Given(p, nil)
	if err != nil || given.Spec.Repository != (PreviewRepository{"shop", r.Spec.URL, "shop-key"}) || !reflect.DeepEqual(given.Spec.PreviewTemplate, r.Spec.Preview) || given.Spec.Rebuild != 2 {
		t.Errorf("%v: %s", err, toJSON(t, given))
	}
	if toJSON(t, p) != before {
		t.Error("the document was changed")
	}
	if again, _ := r.Given(given, nil); toJSON(t, again) != toJSON(t, given) {
		t.Errorf("given again: %s", toJSON(t, again))
	}
	if needs := given.Needs(); len(needs) != 3 || needs[2].Value != "shop" {
		t.Errorf("asks its source for %v", needs)
	}
	for _, m := range []*Preview{given, shopRepository(nil).mustGive(t, given)} {
		if m.Machine().Preview != m {
			t.Error("the machine is another one's")
		}
	}
}

func (r *Repository) mustGive(t *testing.T, p *Preview) *Preview {
	t.Helper()
	given, err := r.Given(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return given
}

// TestGivenToFork: what a fork's author could take away, or have the host
// evaluate, is not for its commits.
func TestGivenToFork(t *testing.T) {
	p := &Preview{Metadata: ObjectMeta{Name: "shop-7"}, Spec: PreviewSpec{Repository: PreviewRepository{Name: "shop"}, PullRequest: 7, Host: "shop-7.preview.test", Fork: true}}
	p.Default(nil)
	given := shopRepository(fullRepository).mustGive(t, p)
	if !reflect.DeepEqual(given.Spec.Grants, PreviewGrants{}) || given.Spec.Database != (PreviewDatabase{DeletionPolicy: "Retain"}) || given.Spec.Repository.Secret != "shop-key" || given.Spec.Resources.TasksMax != 10 {
		t.Errorf("a fork is given %s", toJSON(t, given))
	}
	nix := shopRepository(func(s *RepositorySpec) { s.Preview.Config = "deploy/preview.nix" })
	if _, err := nix.Given(p, nil); err == nil || !strings.Contains(err.Error(), "Repository shop: spec.preview.config") {
		t.Errorf("a configuration that is code: %v", err)
	}
	p.Spec.Fork = false
	nix.mustGive(t, p)
}

// TestGivenWithoutCertificate: what the Repository could not know is said when a
// preview names it.
func TestGivenWithoutCertificate(t *testing.T) {
	r := shopRepository(func(s *RepositorySpec) { s.Preview.TLS = "files" })
	h := DefaultHost()
	h.Spec.Ingress.Certificates = []Certificate{{Hosts: []string{"*.preview.test"}}}
	p := &Preview{Spec: PreviewSpec{Repository: PreviewRepository{Name: "shop"}, Host: "a.preview.test"}}
	if _, err := r.Given(p, &h.Spec); err != nil {
		t.Error(err)
	}
	p.Spec.Host = "a.elsewhere.test"
	if _, err := r.Given(p, &h.Spec); err == nil || !strings.Contains(err.Error(), "Repository shop: spec.preview.tls") {
		t.Errorf("without a certificate: %v", err)
	}
}

func TestMatchBase(t *testing.T) {
	for _, tt := range []struct {
		bases  string
		branch string
		want   bool
	}{
		{"", "anything/at.all", true}, {"main", "main", true}, {"main", "main2", false}, {"main", "amain", false}, {"m.in", "main", false},
		{"release/*", "release/1.0", true}, {"release/*", "release/1/x", true}, {"release/*", "release", false}, {"*", "x/y", true},
		{"main develop", "develop", true}, {"v*.x", "v1.x", true}, {"v*.x", "v1.y", false}, {"a\nb", "a", false},
	} {
		s := PullRequestPolicy{Bases: strings.Split(tt.bases, " ")}
		if tt.bases == "" {
			s.Bases = nil
		}
		if got := s.MatchBase(tt.branch); got != tt.want {
			t.Errorf("%q matches %q: %t", tt.bases, tt.branch, got)
		}
	}
}
