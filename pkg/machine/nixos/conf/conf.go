// Package conf is the configuration file of one NixOS container,
// /etc/nixos-containers/NAME.conf, as NixOS's own tools read it: the unit
// container@NAME.service as its EnvironmentFile=, the program nixos-container
// line by line with patterns, older versions of both by a shell.
//
// What Render writes means the same to all three. Parse reads what anybody
// wrote, the way systemd does.
package conf

import (
	"fmt"
	"slices"
	"strings"
)

// Dir is where NixOS keeps the files.
const Dir = "/etc/nixos-containers"

// Conf is what a file says. Only what is set is rendered.
type Conf struct {
	// Mark is tekton's, in a comment; empty: somebody else's file.
	Mark string
	// Label is for people, in the same comment.
	Label string

	SystemPath string // absent: the profile's
	Flake      string

	PrivateNetwork  bool
	HostAddress     string
	HostAddress6    string
	LocalAddress    string
	LocalAddress6   string
	LocalMACAddress string
	HostBridge      string
	HostPort        []string // tcp:8080:80
	NamespacePath   string
	Interfaces      []string
	MACVLANs        []string

	// ShownHostAddress and ShownAddress are what nixos-container takes for the
	// addresses (show-ip, and which ones a new container cannot have) while the
	// unit makes no link for them. Render only.
	ShownHostAddress string
	ShownAddress     string

	PrivateUsers   string // "", no, pick or the first id
	AutoStart      bool
	CopyResolvConf bool
	ExtraFlags     []string // of systemd-nspawn, one word each
	// Unknown are further keys, sorted. Parse only.
	Unknown []string
}

// field is one key of the format and what of a Conf it is.
type field struct {
	key string
	at  func(*Conf) any // *string, *bool (0 or 1), or *[]string (separated by sep)
	sep string
}

var fields = []field{
	{"SYSTEM_PATH", func(c *Conf) any { return &c.SystemPath }, ""},
	{"FLAKE", func(c *Conf) any { return &c.Flake }, ""},
	{"PRIVATE_NETWORK", func(c *Conf) any { return &c.PrivateNetwork }, ""},
	{"HOST_ADDRESS", func(c *Conf) any { return &c.HostAddress }, ""},
	{"HOST_ADDRESS6", func(c *Conf) any { return &c.HostAddress6 }, ""},
	{"LOCAL_ADDRESS", func(c *Conf) any { return &c.LocalAddress }, ""},
	{"LOCAL_ADDRESS6", func(c *Conf) any { return &c.LocalAddress6 }, ""},
	{"LOCAL_MAC_ADDRESS", func(c *Conf) any { return &c.LocalMACAddress }, ""},
	{"HOST_BRIDGE", func(c *Conf) any { return &c.HostBridge }, ""},
	{"HOST_PORT", func(c *Conf) any { return &c.HostPort }, ","},
	{"NETWORK_NAMESPACE_PATH", func(c *Conf) any { return &c.NamespacePath }, ""},
	{"INTERFACES", func(c *Conf) any { return &c.Interfaces }, " "},
	{"MACVLANS", func(c *Conf) any { return &c.MACVLANs }, " "},
	{"PRIVATE_USERS", func(c *Conf) any { return &c.PrivateUsers }, ""},
	{"AUTO_START", func(c *Conf) any { return &c.AutoStart }, ""},
	{"COPY_RESOLV_CONF", func(c *Conf) any { return &c.CopyResolvConf }, ""},
	{"EXTRA_NSPAWN_FLAGS", func(c *Conf) any { return &c.ExtraFlags }, " "},
}

// about is for people who look at a file of ours.
const about = "# Written by tektond; it is overwritten. Change the object's spec.\n"

// aboutAddresses explains the keys that are there twice.
const aboutAddresses = "# For nixos-container, which takes the first value. The unit takes the last and makes no link: tekton does.\n"

// Render writes the file. A value that one of its readers would take for more
// than itself is an error.
func (c Conf) Render() (string, error) {
	var b strings.Builder
	if c.Mark != "" {
		if strings.ContainsAny(c.Mark+c.Label, "\n\\") || strings.Contains(c.Mark, " ") {
			return "", fmt.Errorf("mark %q with label %q does not fit into a line", c.Mark, c.Label)
		}
		b.WriteString("# " + strings.TrimSpace(c.Mark+" "+c.Label) + "\n" + about)
	}
	if c.ShownHostAddress != "" || c.ShownAddress != "" {
		fmt.Fprintf(&b, "%sHOST_ADDRESS=%s\nLOCAL_ADDRESS=%s\n", aboutAddresses, c.ShownHostAddress, c.ShownAddress)
	}
	for _, f := range fields {
		value, set, err := f.render(&c)
		if err != nil {
			return "", fmt.Errorf("%s: %w", f.key, err)
		}
		shown := c.ShownAddress != "" && (f.key == "HOST_ADDRESS" || f.key == "LOCAL_ADDRESS")
		if set || shown || f.key == "AUTO_START" {
			b.WriteString(f.key + "=" + value + "\n")
		}
	}
	return b.String(), nil
}

func (f field) render(c *Conf) (value string, set bool, err error) {
	switch v := f.at(c).(type) {
	case *string:
		return *v, *v != "", Word(*v)
	case *bool:
		if *v {
			return "1", true, nil
		}
		return "0", false, nil
	case *[]string:
		for _, w := range *v {
			if err := Word(w); err != nil {
				return "", false, err
			}
			if w == "" || strings.Contains(w, f.sep) {
				return "", false, fmt.Errorf("%q is not one entry", w)
			}
		}
		value = strings.Join(*v, f.sep)
		if f.sep == " " {
			value = `"` + value + `"`
		}
		return value, len(*v) > 0, nil
	}
	return "", false, nil
}

// special has what systemd, a shell or the unit's unquoted use of a value would
// not leave as it is.
const special = " \t\r\n\x00\"'`\\$*?[]{}~!;&|<>()#"

// Word reports why a value cannot be one word of a file: the unit splits flags
// at blanks and expands patterns in them, and knows no way to write either.
func Word(s string) error {
	if i := strings.IndexAny(s, special); i >= 0 {
		return fmt.Errorf("%q holds %q, which the unit container@ cannot be given", s, s[i])
	}
	return nil
}

// Parse reads a file the way systemd's EnvironmentFile= does; a key that is
// there twice has its last value.
func Parse(text string) (Conf, error) {
	var c Conf
	for line := range strings.Lines(text) {
		comment, isComment := strings.CutPrefix(strings.TrimSpace(line), "#")
		if !isComment {
			continue
		}
		if mark, label, _ := strings.Cut(strings.TrimSpace(comment), " "); strings.HasPrefix(mark, "tekton/") && c.Mark == "" {
			c.Mark, c.Label = mark, label
		}
	}
	values, err := assignments(text)
	if err != nil {
		return c, err
	}
	for key, value := range values {
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == key })
		if i < 0 {
			c.Unknown = append(c.Unknown, key)
			continue
		}
		fields[i].read(&c, value)
	}
	slices.Sort(c.Unknown)
	return c, nil
}

func (f field) read(c *Conf, value string) {
	switch v := f.at(c).(type) {
	case *string:
		*v = value
	case *bool:
		*v = value == "1"
	case *[]string:
		*v = nil
		for w := range strings.SplitSeq(value, f.sep) {
			if w = strings.TrimSpace(w); w != "" {
				*v = append(*v, w)
			}
		}
	}
}
