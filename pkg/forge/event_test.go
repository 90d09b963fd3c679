package forge_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/forge"
)

func sign(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

func TestVerify(t *testing.T) {
	const body = `{"zen":"Keep it logically awesome."}`
	good, other := sign("new", body), sign("other", body)
	tests := map[string]struct {
		h       http.Header
		body    string
		secrets []string
		ok      bool
	}{
		// GitHub's documentation, "Testing the webhook payload validation".
		"as documented":        {header("X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"), "Hello, World!", []string{"It's a Secret to Everybody"}, true},
		"github":               {header("X-Hub-Signature-256", "sha256="+good), body, []string{"new"}, true},
		"while rotated":        {header("X-Hub-Signature-256", "sha256="+sign("old", body)), body, []string{"new", "old"}, true},
		"before it is rotated": {header("X-Hub-Signature-256", "sha256="+good), body, []string{"new", "old"}, true},
		"forgejo":              {header("X-Forgejo-Signature", good), body, []string{"new"}, true},
		"gitea":                {header("X-Gitea-Signature", good), body, []string{"new"}, true},
		"upper case":           {header("X-Hub-Signature-256", "sha256="+strings.ToUpper(good)), body, []string{"new"}, true},
		"of another secret":    {header("X-Hub-Signature-256", "sha256="+other), body, []string{"new", "old"}, false},
		"of another body":      {header("X-Hub-Signature-256", "sha256="+good), body + " ", []string{"new"}, false},
		"no signature":         {header(), body, []string{"new"}, false},
		"empty":                {header("X-Hub-Signature-256", "sha256="), body, []string{"new"}, false},
		"cut short":            {header("X-Hub-Signature-256", "sha256="+good[:62]), body, []string{"new"}, false},
		"not hex":              {header("X-Hub-Signature-256", "sha256="+strings.Repeat("zz", 32)), body, []string{"new"}, false},
		"sha1 only":            {header("X-Hub-Signature", "sha1=7d38cdd689735b008b3c702edd92eea23791c5f6"), body, []string{"new"}, false},
		"not made good":        {header("X-Hub-Signature-256", "sha256="+other, "X-Gitea-Signature", good), body, []string{"new"}, false},
		"no secret":            {header("X-Hub-Signature-256", "sha256="+sign("", body)), body, nil, false},
		"empty secret":         {header("X-Hub-Signature-256", "sha256="+sign("", body)), body, []string{""}, false},
		"empty secret, beside": {header("X-Hub-Signature-256", "sha256="+sign("", body)), body, []string{"new", ""}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var secrets [][]byte
			for _, s := range tt.secrets {
				secrets = append(secrets, []byte(s))
			}
			err := forge.Verify(tt.h, []byte(tt.body), secrets...)
			if (err == nil) != tt.ok || err != nil && !errors.Is(err, forge.ErrSignature) {
				t.Errorf("Verify = %v, want ok %v", err, tt.ok)
			}
		})
	}
}

const repo = `"repository":{"full_name":"acme/shop"}`

// deliveries have the fields that GitHub and Forgejo document, and of those the
// ones that are read, with neighbours that must not be taken for them.
var deliveries = map[string]struct {
	h    http.Header
	body string
	want forge.Event
	err  string
}{
	"ping":                  {github("ping"), `{"zen":"x","hook_id":1,` + repo + `}`, forge.Event{Kind: forge.EventPing}, ""},
	"ping of an app":        {github("ping"), `{"zen":"x","hook_id":1}`, forge.Event{Kind: forge.EventPing}, ""},
	"opened":                {github("pull_request"), `{"action":"opened","number":7,"pull_request":{"number":9,"state":"open"},` + repo + `}`, pull(7), ""},
	"reopened":              {github("pull_request"), `{"action":"reopened","number":7,` + repo + `}`, pull(7), ""},
	"synchronize":           {github("pull_request"), `{"action":"synchronize","number":7,"before":"a","after":"b",` + repo + `}`, pull(7), ""},
	"edited":                {github("pull_request"), `{"action":"edited","number":7,"changes":{"base":{"ref":{"from":"main"}}},` + repo + `}`, pull(7), ""},
	"closed":                {github("pull_request"), `{"action":"closed","number":7,` + repo + `}`, pull(7), ""},
	"labeled":               {github("pull_request"), `{"action":"labeled","number":7,"label":{"name":"preview"},` + repo + `}`, pull(7), ""},
	"unlabeled":             {github("pull_request"), `{"action":"unlabeled","number":7,` + repo + `}`, pull(7), ""},
	"converted_to_draft":    {github("pull_request"), `{"action":"converted_to_draft","number":7,` + repo + `}`, pull(7), ""},
	"ready_for_review":      {github("pull_request"), `{"action":"ready_for_review","number":7,` + repo + `}`, pull(7), ""},
	"forgejo: synchronized": {forgejo("pull_request"), `{"action":"synchronized","number":7,"is_pull":true,` + repo + `}`, pull(7), ""},
	"forgejo: labels":       {forgejo("pull_request"), `{"action":"label_updated","number":7,` + repo + `}`, pull(7), ""},
	"forgejo: cleared":      {forgejo("pull_request"), `{"action":"label_cleared","number":7,` + repo + `}`, pull(7), ""},
	"assigned":              {github("pull_request"), `{"action":"assigned","number":7,` + repo + `}`, forge.Event{}, ""},
	"push":                  {github("push"), `{"ref":"refs/heads/feature/a","before":"0","after":"1",` + repo + `}`, branch("feature/a"), ""},
	"deleted branch":        {github("push"), `{"ref":"refs/heads/main","deleted":true,` + repo + `}`, branch("main"), ""},
	"tag":                   {github("push"), `{"ref":"refs/tags/v1",` + repo + `}`, forge.Event{}, ""},
	"comment":               {github("issue_comment"), `{"action":"created","issue":{"number":7,"pull_request":{"url":"u"}},"comment":{"body":"/preview"},` + repo + `}`, comment(7), ""},
	"comment of an issue":   {github("issue_comment"), `{"action":"created","issue":{"number":7},` + repo + `}`, forge.Event{}, ""},
	"forgejo: comment":      {forgejo("issue_comment"), `{"action":"created","issue":{"number":7,"pull_request":null},"is_pull":true,` + repo + `}`, comment(7), ""},
	"forgejo: of an issue":  {forgejo("issue_comment"), `{"action":"created","issue":{"number":7,"pull_request":null},"is_pull":false,` + repo + `}`, forge.Event{}, ""},
	"other event":           {github("workflow_run"), `{"action":"completed",` + repo + `}`, forge.Event{}, ""},

	"no id":            {header("X-GitHub-Event", "ping", "Content-Type", "application/json"), `{}`, forge.Event{}, "no proper id"},
	"id with a path":   {header("X-GitHub-Event", "ping", "X-GitHub-Delivery", "../x", "Content-Type", "application/json"), `{}`, forge.Event{}, "no proper id"},
	"no event":         {header("X-GitHub-Delivery", "1", "Content-Type", "application/json"), `{}`, forge.Event{}, "no proper event"},
	"form":             {header("X-GitHub-Event", "ping", "X-GitHub-Delivery", "1", "Content-Type", "application/x-www-form-urlencoded"), `payload=%7B%7D`, forge.Event{}, "set the webhook's content type to application/json"},
	"not JSON":         {github("push"), `{"ref":`, forge.Event{}, "unexpected end of JSON"},
	"number 0":         {github("pull_request"), `{"action":"opened","number":0,` + repo + `}`, forge.Event{}, "0 is not the number"},
	"negative":         {github("pull_request"), `{"action":"opened","number":-7,` + repo + `}`, forge.Event{}, "-7 is not the number"},
	"huge number":      {github("pull_request"), `{"action":"opened","number":4294967297,` + repo + `}`, forge.Event{}, "is not the number"},
	"a word":           {github("pull_request"), `{"action":"opened","number":"7",` + repo + `}`, forge.Event{}, "Number of type int64"},
	"no repository":    {github("pull_request"), `{"action":"opened","number":7}`, forge.Event{}, "is not the name of a repository"},
	"a path":           {github("push"), `{"ref":"refs/heads/a","repository":{"full_name":"acme/../../etc"}}`, forge.Event{}, "is not the name of a repository"},
	"up":               {github("push"), `{"ref":"refs/heads/a","repository":{"full_name":"acme/.."}}`, forge.Event{}, "is not the name of a repository"},
	"option as owner":  {github("push"), `{"ref":"refs/heads/a","repository":{"full_name":"-o/x"}}`, forge.Event{}, "is not the name of a repository"},
	"with .git":        {github("push"), `{"ref":"refs/heads/a","repository":{"full_name":"acme/shop.git"}}`, forge.Event{}, "is not the name of a repository"},
	"long branch":      {github("push"), `{"ref":"refs/heads/` + strings.Repeat("a", 256) + `",` + repo + `}`, forge.Event{}, "no proper branch"},
	"branch of none":   {github("push"), `{"ref":"refs/heads/",` + repo + `}`, forge.Event{}, "no proper branch"},
	"line in a branch": {github("push"), `{"ref":"refs/heads/a\nb",` + repo + `}`, forge.Event{}, "no proper branch"},
}

func github(event string) http.Header {
	return header("X-GitHub-Event", event, "X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958", "Content-Type", "application/json")
}

func forgejo(event string) http.Header {
	return header("X-Forgejo-Event", event, "X-Forgejo-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958", "Content-Type", "application/json; charset=utf-8")
}

var shop = forge.Repository{Owner: "acme", Name: "shop"}

func pull(n int) forge.Event {
	return forge.Event{Kind: forge.EventPullRequest, Repository: shop, PullRequest: n}
}
func comment(n int) forge.Event {
	return forge.Event{Kind: forge.EventComment, Repository: shop, PullRequest: n}
}
func branch(b string) forge.Event {
	return forge.Event{Kind: forge.EventPush, Repository: shop, Branch: b}
}

func TestParse(t *testing.T) {
	for name, tt := range deliveries {
		t.Run(name, func(t *testing.T) {
			got, err := forge.Parse(tt.h, []byte(tt.body))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("Parse: %v, want an error with %q", err, tt.err)
				}
				tt.want = forge.Event{}
			} else if err != nil {
				t.Fatal(err)
			} else {
				tt.want.ID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// FuzzParse: whatever comes, what goes on is bounded and of the forges' syntax.
func FuzzParse(f *testing.F) {
	for _, tt := range deliveries {
		f.Add(tt.h.Get("X-GitHub-Event"), tt.h.Get("X-GitHub-Delivery"), tt.body)
	}
	f.Fuzz(func(t *testing.T, kind, id, body string) {
		h := http.Header{"Content-Type": {"application/json"}, "X-Github-Event": {kind}, "X-Github-Delivery": {id}}
		e, err := forge.Parse(h, []byte(body))
		if err != nil {
			if e != (forge.Event{}) {
				t.Errorf("an error and %+v", e)
			}
			return
		}
		if e.ID != id || len(id) > 64 || strings.ContainsAny(id, "/.\x00\n ") {
			t.Errorf("id %q of %q", e.ID, id)
		}
		switch e.Kind {
		case "":
			e.ID = ""
			if e != (forge.Event{}) {
				t.Errorf("says nothing, and yet %+v", e)
			}
			return
		case forge.EventPing:
			return
		}
		if err := e.Repository.Validate(); err != nil {
			t.Error(err)
		}
		if again, err := forge.ParseRepository(e.Repository.String()); err != nil || again != e.Repository {
			t.Errorf("%v is read as %v, %v", e.Repository, again, err)
		}
		if (e.PullRequest > 0) == (e.Branch != "") || e.PullRequest < 0 {
			t.Errorf("neither or both: %+v", e)
		}
		if len(e.Branch) > 255 || !utf8.ValidString(e.Branch) || strings.ContainsAny(e.Branch, "\n\x00\x1b") {
			t.Errorf("branch %q", e.Branch)
		}
	})
}

// FuzzVerify: without the secret nothing is believed.
func FuzzVerify(f *testing.F) {
	f.Add("sha256="+sign("x", "{}"), "{}")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, signature, body string) {
		secret := []byte("a secret that the fuzzer does not know")
		if forge.Verify(http.Header{"X-Hub-Signature-256": {signature}}, []byte(body), secret) == nil {
			t.Errorf("believed %q", signature)
		}
	})
}
