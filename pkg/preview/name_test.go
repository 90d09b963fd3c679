package preview

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tekton.host/pkg/api/v1alpha1"
)

func shows(url, branch string, pull int, commit string) v1alpha1.PreviewSpec {
	return v1alpha1.PreviewSpec{Repository: v1alpha1.PreviewRepository{URL: url}, Branch: branch, PullRequest: pull, Commit: commit}
}

func TestName(t *testing.T) {
	commit := strings.Repeat("0123456789", 4)
	for _, tt := range []struct {
		spec v1alpha1.PreviewSpec
		want string
	}{
		{shows("https://example.org/team/shop.git", "main", 0, ""), "shop-main-"},
		{shows("https://example.org/team/shop.git", "feature/It's $HOME", 0, ""), "shop-feature-it-s-home-"},
		{shows("https://example.org/team/shop", "", 42, ""), "shop-42-"},
		{shows("https://example.org/team/shop", "", 0, commit), "shop-0123456-"},
		{shows("ssh://git@example.org/A_long.Repository-Name", strings.Repeat("long/", 40), 0, ""), "a-long-repositor-long-long-long-"},
		{shows("https://example.org/日本", "日本", 0, ""), ""},
		{shows("https://example.org/日本", "---", 0, ""), ""},
	} {
		got := Name(tt.spec)
		if !strings.HasPrefix(got, tt.want) || len(got) != len(tt.want)+hashLength {
			t.Errorf("%+v: %q, want %q and a hash", tt.spec, got, tt.want)
		}
	}
	// Held at a commit it is still the same preview; the spelling of a clone's address is no difference.
	a := Name(shows("https://example.org/team/shop.git", "main", 0, ""))
	if b := Name(shows("https://example.org/team/shop/", "main", 0, commit)); a != b {
		t.Errorf("%q and %q", a, b)
	}
}

// TestNamesAreUnlike: whatever differs has another name, and each name is one.
func TestNamesAreUnlike(t *testing.T) {
	label := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)
	word := rapid.OneOf(
		rapid.StringMatching(`[a-c/_.-]{1,6}`), rapid.StringMatching(`[A-Ca-c0-2日é'"$ -]{1,30}`), rapid.String(), rapid.SampledFrom([]string{"main", "1", "pull/1", "refs/pull/1/head", "feat/x", "feat-x"}),
	)
	one := rapid.Custom(func(t *rapid.T) v1alpha1.PreviewSpec {
		url := "https://example.org/" + rapid.SampledFrom([]string{"a", "b", "a/b", "a-b", "a/b-c"}).Draw(t, "owner") + "/" + word.Draw(t, "repository")
		switch rapid.IntRange(0, 2).Draw(t, "what") {
		case 0:
			return shows(url, word.Draw(t, "branch"), 0, "")
		case 1:
			return shows(url, "", rapid.IntRange(1, 20).Draw(t, "number"), "")
		}
		return shows(url, "", 0, rapid.StringMatching(`[01]{40}`).Draw(t, "commit"))
	})
	same := func(a, b v1alpha1.PreviewSpec) bool {
		url := func(s v1alpha1.PreviewSpec) string {
			return strings.TrimSuffix(strings.TrimRight(s.Repository.URL, "/"), ".git")
		}
		return url(a) == url(b) && a.Followed() == b.Followed()
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := one.Draw(t, "a"), one.Draw(t, "b")
		for _, s := range []v1alpha1.PreviewSpec{a, b} {
			if name := Name(s); !label.MatchString(name) || name != Name(s) {
				t.Fatalf("%+v: %q", s, name)
			}
		}
		if (Name(a) == Name(b)) != same(a, b) {
			t.Fatalf("%+v and %+v: %q and %q", a, b, Name(a), Name(b))
		}
	})
}
