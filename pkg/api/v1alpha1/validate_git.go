package v1alpha1

import (
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	// minInterval spares the remote; what has to be at once is a trigger's work.
	minInterval = 5 * time.Second
	minTimeout  = time.Second
)

var (
	// gitBranch is narrower than git-check-ref-format(1): no name is an option,
	// a pattern or a path out of refs/heads.
	gitBranch = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*$`)
	// scpURL is the short form of ssh's: git@example.org:team/specs.git
	scpURL = regexp.MustCompile(`^([^/:@]+@)?[^/:@]+:[^/]`)
)

func (v *hostCheck) gitSource(p *field.Path, g *GitSource) {
	scheme := v.gitURL(p.Child("url"), g.URL, "write the token into a file and name it in auth.tokenFile")
	if !gitBranch.MatchString(g.Branch) || strings.Contains(g.Branch, "..") || strings.HasSuffix(g.Branch, ".") || strings.Contains(g.Branch+"/", ".lock/") {
		v.invalid(p.Child("branch"), g.Branch, "is not the name of a branch such as main or hosts/a")
	}
	if at := p.Child("path"); g.Path != "" {
		switch {
		case hasControl(g.Path) || len(g.Path) > maxPath:
			v.forbidden(at, "holds a control character or is too long")
		case path.IsAbs(g.Path) || path.Clean(g.Path) != g.Path || g.Path == "." || g.Path == ".." || strings.HasPrefix(g.Path, "../"):
			v.invalid(at, g.Path, "must be a path in the repository in its shortest form, such as hosts/a; leave it out for the repository's top")
		}
	}
	v.duration(p.Child("interval"), g.Interval, Duration{minInterval})
	v.duration(p.Child("timeout"), g.Timeout, Duration{minTimeout})
	v.size(p.Child("maxSize"), g.MaxSize)
	v.gitAuth(p.Child("auth"), scheme, &g.Auth)
	if g.Verify != nil {
		v.absPath(p.Child("verify", "allowedSignersFile"), g.Verify.AllowedSignersFile, "name a file of allowed signers")
	}
}

// gitURL checks a repository's address and returns its scheme. secret says where
// what must not be in it belongs.
func (v *checker) gitURL(p *field.Path, value, secret string) string {
	if value == "" {
		v.required(p, "write https://HOST/PATH or ssh://USER@HOST/PATH")
		return ""
	}
	u, err := url.Parse(value)
	if hasControl(value) || strings.ContainsAny(value, " \"\\") {
		v.forbidden(p, "holds a space, quote, backslash or control character")
		return ""
	}
	if err != nil || u.Host == "" {
		hint := ""
		if scpURL.MatchString(value) && !strings.Contains(value, "://") {
			hint = "; did you mean \"ssh://" + strings.Replace(value, ":", "/", 1) + "\"?"
		}
		v.invalid(p, value, "is not https://HOST/PATH or ssh://USER@HOST/PATH%s", hint)
		return ""
	}
	// The value is not repeated where it may hold a password.
	if _, password := u.User.Password(); password || u.User != nil && u.Scheme != "ssh" {
		v.forbidden(p, "must hold no user name or password; %s", secret)
		return u.Scheme
	}
	switch {
	case u.Scheme == "http" && !loopback(u.Hostname()):
		v.invalid(p, value, "is not encrypted; use https, or ssh (http is for a server on this host only)")
	case u.Scheme != "https" && u.Scheme != "ssh" && u.Scheme != "http":
		v.invalid(p, value, "has the scheme %q; only https and ssh are possible", u.Scheme)
	case strings.HasPrefix(u.Hostname(), "-") || strings.HasPrefix(u.User.Username(), "-"):
		v.invalid(p, value, "has a name that begins with '-'")
	case strings.Trim(u.Path, "/") == "" || u.RawQuery != "" || u.Fragment != "":
		v.invalid(p, value, "must have a path, and no query or fragment")
	case path.Clean(u.Path) != strings.TrimSuffix(u.Path, "/"):
		v.invalid(p, value, "must have a path in its shortest form")
	}
	return u.Scheme
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

func (v *hostCheck) gitAuth(p *field.Path, scheme string, a *GitAuth) {
	files := []struct{ name, value, of string }{
		{"sshKeyFile", a.SSHKeyFile, "ssh"}, {"knownHostsFile", a.KnownHostsFile, "ssh"}, {"tokenFile", a.TokenFile, "https"},
	}
	for _, f := range files {
		switch {
		case f.value == "" && f.of == "ssh" && scheme == "ssh":
			v.required(p.Child(f.name), "ssh needs a private key and the remote's host keys (ssh-keyscan prints them; compare them with what the remote publishes)")
		case f.value == "":
		case scheme != "" && (f.of == "ssh") != (scheme == "ssh"):
			v.forbidden(p.Child(f.name), "is for %s, and the url is not", f.of)
		default:
			v.absPath(p.Child(f.name), f.value, "name a file")
		}
	}
	if a.Username != "" && (a.TokenFile == "" || hasControl(a.Username) || strings.Contains(a.Username, ":")) {
		v.invalid(p.Child("username"), a.Username, "goes with a tokenFile, and holds no colon or control character")
	}
}

// maxRef leaves room for what git puts before and behind it in a file's name.
const maxRef = 240

// gitRef checks what names a commit of a repository: as git-check-ref-format(1)
// says it, and never an option.
func (v *checker) gitRef(p *field.Path, ref string) {
	const forbidden = " ~^:?*[\\"
	odd := func(part string) bool {
		return part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock")
	}
	switch {
	case ref == "":
		v.required(p, "name a branch, a tag or a commit")
	case len(ref) > maxRef:
		v.forbidden(p, "has %d bytes; at most %d are possible", len(ref), maxRef)
	case !utf8.ValidString(ref) || strings.ContainsFunc(ref, func(c rune) bool { return c != ' ' && !unicode.IsPrint(c) }):
		v.forbidden(p, "holds a character that cannot be printed")
	case strings.HasPrefix(ref, "-"), ref == "@", strings.HasSuffix(ref, "."), strings.Contains(ref, ".."), strings.Contains(ref, "@{"),
		strings.ContainsAny(ref, forbidden), slices.ContainsFunc(strings.Split(ref, "/"), odd):
		v.invalid(p, ref, "is not the name of a branch, a tag or a commit; see git check-ref-format")
	}
}

// repository checks a volume's.
func (v *containerCheck) repository(p *field.Path, r *VolumeRepository) {
	v.gitURL(p.Child("url"), r.URL, "tekton secret set NAME takes the token; name it in secret")
	v.gitRef(p.Child("ref"), r.Ref)
	if r.Secret != "" {
		v.credentialName(p.Child("secret"), r.Secret)
	}
	if name, _, _, err := ParseUser(r.User); r.User != "" && (err != nil || name != "") {
		v.invalid(p.Child("user"), r.User, "must be UID or UID:GID")
	}
}
