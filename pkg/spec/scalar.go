package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// wholeNumber is the one way of writing an integer that all readers of YAML
// and JSON agree on: 010 is eight to some and ten to others.
var wholeNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// truthy are booleans of YAML 1.1 and texts of YAML 1.2.
var truthy = map[string]bool{"yes": true, "no": false, "on": true, "off": false}

// sort of a scalar as it was written.
type scalarSort int

const (
	isText scalarSort = iota
	isBool
	isTruthy // yes, no, on, off without quotes
	isInt
	isOddNumber // 1.10, 0x1f, 010, 1_000
	isTagged    // !!binary, !custom
)

func sortOf(n *yaml.Node) scalarSort {
	tag := n.ShortTag()
	plain := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0
	switch {
	case tag == "!!bool" && plain:
		return isBool
	case tag == "!!int" && plain && wholeNumber.MatchString(n.Value):
		return isInt
	case (tag == "!!int" || tag == "!!float") && plain:
		return isOddNumber
	case tag == "!!str" || (plain && (tag == "!!timestamp" || tag == "!!merge")):
		if _, odd := truthy[strings.ToLower(n.Value)]; odd && plain {
			return isTruthy
		}
		return isText
	}
	return isTagged
}

// describe says what stands at the cursor.
func describe(c cursor) string {
	if c.node.Kind == yaml.MappingNode {
		return "a mapping"
	}
	if c.node.Kind == yaml.SequenceNode {
		return "a list"
	}
	what := map[scalarSort]string{isText: "text", isBool: "a boolean", isTruthy: "a boolean", isInt: "a number", isOddNumber: "a number", isTagged: "a value with the tag " + c.node.Tag}[sortOf(c.node)]
	if c.private || len(c.node.Value) > 60 {
		return what
	}
	return fmt.Sprintf("%s (%s)", what, c.node.Value)
}

func (w *walker) scalar(c cursor, t reflect.Type) bool {
	if c.node.Kind != yaml.ScalarNode {
		return w.wrong(c, "must be %s, not %s", wanted(t), describe(c))
	}
	switch t.Kind() {
	case reflect.String:
		return w.textScalar(c)
	case reflect.Bool:
		return w.boolScalar(c)
	}
	return w.intScalar(c)
}

func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	}
	return "a whole number"
}

// textScalar also refuses control characters, which YAML can only carry as
// escapes: terminals obey them, and not every writer of YAML escapes them again.
func (w *walker) textScalar(c cursor) bool {
	if sortOf(c.node) == isText {
		if r, found := control(c.node.Value); found {
			return w.problem(w.at(c.node), ReasonInvalidValue, c.path, "holds the control character U+%04X; a spec is text", r)
		}
		w.text(c.node.Value)
		return true
	}
	if sortOf(c.node) == isTagged {
		return w.wrong(c, "must be text; the tag %s is not supported", c.node.Tag)
	}
	if c.private {
		return w.wrong(c, "must be text, not %s; put the value in quotes", describe(c))
	}
	return w.wrong(c, "must be text, not %s; write \"%s\" in quotes", describe(c), c.node.Value)
}

func control(s string) (rune, bool) {
	for _, r := range s {
		if (unicode.IsControl(r) && r != '\t' && r != '\n' && r != '\r') || r&0xfffe == 0xfffe {
			return r, true
		}
	}
	return 0, false
}

func hasControl(s string) bool {
	_, found := control(s)
	return found
}

func (w *walker) boolScalar(c cursor) bool {
	switch value, odd := truthy[strings.ToLower(c.node.Value)]; {
	case sortOf(c.node) == isBool:
		w.out.WriteString(strings.ToLower(c.node.Value))
		return true
	case odd:
		return w.wrong(c, "must be true or false; readers of YAML disagree on %s, write %t", c.node.Value, value)
	}
	return w.wrong(c, "must be true or false, not %s", describe(c))
}

func (w *walker) intScalar(c cursor) bool {
	value := c.node.Value
	switch sortOf(c.node) {
	case isInt:
		return w.intValue(c)
	case isText:
		if wholeNumber.MatchString(value) {
			return w.wrong(c, "must be a whole number, not text; remove the quotes")
		}
	case isOddNumber:
		if strings.Trim(value, "0123456789") == "" {
			return w.wrong(c, "must be a whole number without leading zeros; readers of YAML disagree on %s", value)
		}
	}
	return w.wrong(c, "must be a whole number in digits, not %s", describe(c))
}

// intValue also refuses a written zero where zero would pass for "absent".
func (w *walker) intValue(c cursor) bool {
	n, err := strconv.ParseInt(c.node.Value, 10, 32)
	if err != nil {
		return w.problem(w.at(c.node), ReasonInvalidValue, c.path, "%s is out of range", c.node.Value)
	}
	if least, err := strconv.Atoi(c.tag.Get("min")); err == nil && n == 0 && least > 0 {
		most := c.tag.Get("max")
		if most == "" {
			return w.problem(w.at(c.node), ReasonInvalidValue, c.path, "0 must be at least %d", least)
		}
		return w.problem(w.at(c.node), ReasonInvalidValue, c.path, "0 must be from %d to %s", least, most)
	}
	w.out.WriteString(strconv.FormatInt(n, 10))
	return true
}

// custom lets a type of the API judge its own text.
func (w *walker) custom(c cursor, t reflect.Type) bool {
	if c.node.Kind != yaml.ScalarNode {
		return w.wrong(c, "must be one value, not %s", describe(c))
	}
	raw := []byte(c.node.Value)
	switch sortOf(c.node) {
	case isInt:
	case isText:
		raw, _ = json.Marshal(c.node.Value)
	default:
		return w.wrong(c, "must be text or a whole number, not %s", describe(c))
	}
	value := reflect.New(t)
	if err := json.Unmarshal(raw, value.Interface()); err != nil {
		return w.problem(w.at(c.node), ReasonInvalidValue, c.path, "%v", rootCause(err))
	}
	w.out.Write(raw)
	return true
}

func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
