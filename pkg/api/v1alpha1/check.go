package v1alpha1

import (
	"fmt"
	"path"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	// MaxName is the length of an object's name: with the kind, a database's
	// name and tekton's prefix it still fits PostgreSQL's 63 bytes in most cases,
	// and NAME-ORDINAL fits a host name's 64.
	MaxName = 40
	// maxID is the last id of a machine's range of 65536 that is not reserved.
	maxID = 65534
	// maxPath is below the kernel's 4096 by what tekton puts before it.
	maxPath = 1024
)

var (
	envName        = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	userName       = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	credentialName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	templateName   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,62}$`)
	extensionName  = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)
	urlPath        = regexp.MustCompile(`^/[A-Za-z0-9._~!$&'()+,;=:@/-]*$`)
)

// checker collects what is wrong. Details continue the sentence that begins
// with the field's path, or with the value for invalid: "must be ...".
type checker struct{ errs field.ErrorList }

func (c *checker) required(p *field.Path, format string, args ...any) {
	c.errs = append(c.errs, field.Required(p, fmt.Sprintf(format, args...)))
}

func (c *checker) invalid(p *field.Path, value any, format string, args ...any) {
	c.errs = append(c.errs, field.Invalid(p, value, fmt.Sprintf(format, args...)))
}

func (c *checker) forbidden(p *field.Path, format string, args ...any) {
	c.errs = append(c.errs, field.Forbidden(p, fmt.Sprintf(format, args...)))
}

// unique remembers where a value was first used.
type unique map[string]*field.Path

func (c *checker) unique(u unique, value string, p *field.Path) {
	if value == "" {
		return
	}
	if first, used := u[value]; used {
		e := field.Duplicate(p, value)
		e.Detail = first.String()
		c.errs = append(c.errs, e)
		return
	}
	u[value] = p
}

// typeMeta checks that an object built in Go says what it is; the decoder has
// already looked at one that was read.
func (c *checker) typeMeta(t TypeMeta, kind string) {
	if t.APIVersion != APIVersion {
		c.invalid(field.NewPath("apiVersion"), t.APIVersion, "must be %s", APIVersion)
	}
	if t.Kind != kind {
		c.invalid(field.NewPath("kind"), t.Kind, "must be %s", kind)
	}
}

func (c *checker) metadata(m ObjectMeta) {
	p := field.NewPath("metadata")
	c.label(p.Child("name"), m.Name, "give the object a name")
	for key, value := range m.Labels {
		at := p.Child("labels").Key(key)
		if msgs := content.IsLabelKey(key); len(msgs) > 0 {
			c.invalid(at, key, "is not a label key such as app or example.org/app")
		}
		if msgs := content.IsLabelValue(value); len(msgs) > 0 {
			c.invalid(at, value, "is not a label value: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit")
		}
	}
	for key := range m.Annotations {
		if msgs := content.IsLabelKey(strings.ToLower(key)); len(msgs) > 0 {
			c.invalid(p.Child("annotations").Key(key), key, "is not an annotation key such as note or example.org/note")
		}
	}
}

// label checks a required DNS label of at most MaxName characters.
func (c *checker) label(p *field.Path, value, missing string) bool {
	if value == "" {
		c.required(p, "%s", missing)
		return false
	}
	if len(value) > MaxName {
		c.invalid(p, value, "has %d characters; at most %d are possible, because links, units and databases are named after it", len(value), MaxName)
		return false
	}
	if len(content.IsDNS1123Label(value)) > 0 {
		hint := ""
		if fixed := suggestLabel(value); fixed != "" && fixed != value {
			hint = fmt.Sprintf("; did you mean %q?", fixed)
		}
		c.invalid(p, value, "must consist of a-z, 0-9 and '-', beginning and ending with a letter or digit%s", hint)
		return false
	}
	return true
}

func suggestLabel(value string) string {
	fixed := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return '-'
	}, strings.ToLower(value))
	return strings.Trim(fixed, "-")
}

// domain checks a DNS name in lower case.
func (c *checker) domain(p *field.Path, value string) bool {
	switch {
	case len(value) > 253 || len(content.IsDNS1123Subdomain(value)) > 0 || longLabel(value):
		hint := ""
		if bare := bareDomain(value); bare != value && len(content.IsDNS1123Subdomain(bare)) == 0 {
			hint = fmt.Sprintf("; did you mean %q?", bare)
		}
		c.invalid(p, value, "is not a DNS name in lower case such as www.example.org%s", hint)
	case strings.Trim(value, "0123456789.") == "":
		c.invalid(p, value, "is an address, not a DNS name")
	default:
		return true
	}
	return false
}

// bareDomain takes the name out of what may be a URL.
func bareDomain(value string) string {
	_, name, found := strings.Cut(value, "://")
	if !found {
		name = value
	}
	return strings.ToLower(name[:strings.IndexAny(name+"/", ":/")])
}

func longLabel(value string) bool {
	for part := range strings.SplitSeq(value, ".") {
		if len(part) > content.DNS1123LabelMaxLength {
			return true
		}
	}
	return false
}

// hostPattern checks a DNS name, or "*." and a DNS name.
func (c *checker) hostPattern(p *field.Path, value string) bool {
	if rest, wild := strings.CutPrefix(value, "*."); wild {
		return c.domain(p, rest)
	}
	if strings.Contains(value, "*") {
		c.invalid(p, value, "may have '*' only as its whole first label: *.example.org")
		return false
	}
	return c.domain(p, value)
}

// absPath checks an absolute path in its shortest form.
func (c *checker) absPath(p *field.Path, value, missing string) bool {
	switch {
	case value == "":
		c.required(p, "%s", missing)
	case hasControl(value):
		c.forbidden(p, "holds a control character; paths are printable text on one line")
	case len(value) > maxPath:
		c.forbidden(p, "has %d bytes; at most %d are possible", len(value), maxPath)
	case !path.IsAbs(value):
		c.invalid(p, value, "must be an absolute path, beginning with '/'")
	case path.Clean(value) != value:
		c.invalid(p, value, "must be written in its shortest form: %q", path.Clean(value))
	default:
		return true
	}
	return false
}

func (c *checker) envName(p *field.Path, value string) bool {
	if envName.MatchString(value) {
		return true
	}
	c.invalid(p, value, "is not a variable's name: letters, digits and '_', not beginning with a digit")
	return false
}

func (c *checker) size(p *field.Path, q *Quantity) {
	const least = 1 << 20
	if q != nil && q.Bytes < least {
		c.invalid(p, q.String(), "is %d bytes, less than 1M; did you mean %q?", q.Bytes, strings.TrimRight(q.String(), "KMGTi")+"M")
	}
}

// argv checks a command that is not empty.
func (c *checker) argv(p *field.Path, argv []string) {
	for i, arg := range argv {
		if strings.ContainsRune(arg, 0) {
			c.forbidden(p.Index(i), "holds a NUL character, which no argument can have")
		}
	}
	if first := argv[0]; first == "" || hasControl(first) {
		c.invalid(p.Index(0), first, "must be a program: an absolute path, or a name that is looked up in PATH")
	} else if strings.Contains(first, " ") && len(argv) == 1 {
		c.invalid(p.Index(0), first, "is one word to tekton, no shell splits it; write a list: [%s]", strings.Join(strings.Fields(first), ", "))
	}
}

func (c *checker) duration(p *field.Path, d *Duration, least Duration) {
	if d != nil && d.Duration < least.Duration {
		c.invalid(p, d.String(), "must be at least %s", least)
	}
}

// tags checks the enum, min and max tags of all fields below v.
func (c *checker) tags(v reflect.Value, p *field.Path) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			c.tags(v.Elem(), p)
		}
	case reflect.Slice:
		for i := range v.Len() {
			c.tags(v.Index(i), p.Index(i))
		}
	case reflect.Struct:
		for f, fv := range v.Fields() {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous {
				c.tags(fv, p)
				continue
			}
			if name == "" || name == "-" {
				continue
			}
			at := p.Child(name)
			c.tag(f, fv, at, strings.HasPrefix(options, "omit"))
			c.tags(fv, at)
		}
	}
}

func (c *checker) tag(f reflect.StructField, v reflect.Value, p *field.Path, optional bool) {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v, optional = v.Elem(), false
	}
	if v.IsZero() && optional {
		return
	}
	if enum, ok := f.Tag.Lookup("enum"); ok {
		c.enum(p, v.String(), strings.Split(enum, ","))
	}
	if v.CanInt() {
		if v.IsZero() && f.Tag.Get("min") == "1" {
			c.required(p, "write a number from 1%s", strings.TrimSuffix(" to "+f.Tag.Get("max"), " to "))
			return
		}
		c.bounds(p, v.Int(), f.Tag)
	}
}

func (c *checker) enum(p *field.Path, value string, allowed []string) {
	for _, a := range allowed {
		if a == value {
			return
		}
	}
	for _, a := range allowed {
		if strings.EqualFold(a, value) {
			c.invalid(p, value, "must be one of %s; did you mean %q?", strings.Join(allowed, ", "), a)
			return
		}
	}
	if len(allowed) == 1 {
		c.invalid(p, value, "must be %s", allowed[0])
		return
	}
	c.invalid(p, value, "must be one of %s", strings.Join(allowed, ", "))
}

func (c *checker) bounds(p *field.Path, value int64, tag reflect.StructTag) {
	least, errMin := strconv.ParseInt(tag.Get("min"), 10, 64)
	most, errMax := strconv.ParseInt(tag.Get("max"), 10, 64)
	switch {
	case errMin == nil && errMax == nil && (value < least || value > most):
		c.invalid(p, value, "must be from %d to %d", least, most)
	case errMin == nil && errMax != nil && value < least:
		c.invalid(p, value, "must be at least %d", least)
	}
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, unicode.IsControl)
}
