package statuspage

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

func parse(t *testing.T, body string) *html.Node {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// each element of a tree.
func each(n *html.Node, do func(*html.Node)) {
	if n.Type == html.ElementNode {
		do(n)
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		each(c, do)
	}
}

func attr(n *html.Node, key string) string {
	i := slices.IndexFunc(n.Attr, func(a html.Attribute) bool { return a.Key == key })
	if i < 0 {
		return ""
	}
	return n.Attr[i].Val
}

// words of an element, with single spaces.
func words(n *html.Node) string {
	var b strings.Builder
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		if n.Type == html.TextNode {
			b.WriteString(n.Data)
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
	}
	walk(n)
	return strings.Join(strings.Fields(b.String()), " ")
}

// text of the main part of a page.
func text(t *testing.T, body string) (all string) {
	t.Helper()
	each(parse(t, body), func(n *html.Node) {
		if n.Data == "main" {
			all = words(n)
		}
	})
	return all
}

// structure returns what is wrong with a page for who cannot see it, or has no mouse.
func structure(doc *html.Node) (wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	count, ids, labels := map[string]int{}, map[string]int{}, map[string]bool{}
	each(doc, func(n *html.Node) {
		count[n.Data]++
		if id := attr(n, "id"); id != "" {
			ids[id]++
		}
		if n.Data == "label" {
			labels[attr(n, "for")] = words(n) != ""
		}
	})
	for element, n := range map[string]int{"main": 1, "h1": 1, "header": 1, "footer": 1, "title": 1, "style": 0, "iframe": 0, "script": 1} {
		have := count[element]
		if element == "title" {
			have -= count["svg"] // each has one of its own
		}
		if have != n {
			complain("%d <%s>, expected %d", have, element, n)
		}
	}
	for id, n := range ids {
		if n > 1 {
			complain("%d elements have the id %q", n, id)
		}
	}
	level := 0
	each(doc, func(n *html.Node) {
		for _, id := range strings.Fields(attr(n, "aria-labelledby") + " " + attr(n, "aria-describedby")) {
			if ids[id] == 0 {
				complain("<%s> is described by %q, which is not there", n.Data, id)
			}
		}
		named := words(n) != "" || attr(n, "aria-label") != "" || attr(n, "aria-labelledby") != ""
		switch n.Data {
		case "html":
			if attr(n, "lang") == "" {
				complain("the page has no language")
			}
		case "h1", "h2", "h3":
			if now := int(n.Data[1] - '0'); now > level+1 || words(n) == "" {
				complain("<%s> %q follows a heading of level %d", n.Data, words(n), level)
			} else {
				level = now
			}
		case "nav", "section", "svg":
			if attr(n, "aria-label") == "" && attr(n, "aria-labelledby") == "" {
				complain("a <%s> has no name", n.Data)
			}
		case "a", "button", "summary":
			if !named {
				complain("a <%s> to %q has no name", n.Data, attr(n, "href"))
			}
		case "input":
			if attr(n, "type") != "hidden" && !slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == "hidden" }) && !labels[attr(n, "id")] {
				complain("the input %q has no label", attr(n, "name"))
			}
		case "table":
			caption := n.FirstChild
			for caption != nil && caption.Type != html.ElementNode {
				caption = caption.NextSibling
			}
			if caption == nil || caption.Data != "caption" || words(caption) == "" {
				complain("a table has no caption")
			}
		case "th":
			if attr(n, "scope") == "" {
				complain("the heading %q is of no row or column", words(n))
			}
		}
		if attr(n, "role") == "region" && attr(n, "tabindex") != "0" {
			complain("a part that scrolls cannot be reached by keyboard")
		}
		if attr(n, "style") != "" {
			complain("<%s> has a style of its own, which the policy forbids", n.Data)
		}
	})
	return wrong
}
