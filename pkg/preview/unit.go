package preview

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
)

const (
	// User of an application: a number, as a base need not know its name.
	User = "1000:1000"
	// Checkout is where the commit's files are.
	Checkout = v1alpha1.PreviewHome + "/app"
	// EnvironmentFile has the variables of the preview.
	EnvironmentFile = "/etc/preview.env"
	// TokenFile has the repository's token, where that is granted.
	TokenFile = "/etc/preview-token"

	// asUser begins a command of the application.
	asUser = "/usr/bin/env -- setpriv --reuid=1000 --regid=1000 --clear-groups --inh-caps=-all -- env --"

	unitDir   = "/run/systemd/system/"
	setupUnit = "preview-setup.service"
	seedUnit  = "preview-seed.service"

	seedDescription = "Seed of the database"
	// Services are in a slice of their own: stopping that stops them all, also
	// those of a commit before that are no more.
	slice     = "preview.slice"
	sliceUnit = "preview-stop.service"
)

// stop is the unit that ends the services of the commit before.
func stop() v1alpha1.SetupFile {
	return v1alpha1.SetupFile{Path: unitDir + sliceUnit, Mode: 0o444, Content: strings.Join([]string{
		"[Unit]", "Description=End of the services before", "", "[Service]", "Type=oneshot", "ExecStart=/usr/bin/env -- systemctl stop " + slice, "",
	}, "\n")}
}

// restarts has services start again however often they end: what they need may
// come later. It is beside their units, so that those stay as they are, and do not
// start anew, for its sake.
func restarts() v1alpha1.SetupFile {
	return v1alpha1.SetupFile{Path: unitDir + serviceUnit("") + ".d/restarts.conf", Mode: 0o444, Hot: true, Content: "[Unit]\nStartLimitIntervalSec=0\n"}
}

// serviceUnit is the name of a service's unit; none is that of the setup.
func serviceUnit(name string) string { return "preview-service-" + name + ".service" }

// once is a unit that comes to an end.
func once(name, description string, s *v1alpha1.PreviewSetup) v1alpha1.SetupFile {
	return unit(name, description, "", nil, s.Command,
		"Type=oneshot", startTimeout(s))
}

// builtOnce is the same in a system of the application's own, which has a user for it.
func builtOnce(name, description string, checkout bool, s *v1alpha1.PreviewSetup) v1alpha1.SetupFile {
	dir := "~"
	if checkout {
		dir = Checkout
	}
	return v1alpha1.SetupFile{Path: unitDir + name, Mode: 0o444, Content: strings.Join([]string{
		"[Unit]", "Description=" + description, "", "[Service]", "Type=oneshot", startTimeout(s),
		"User=" + builtUser, "WorkingDirectory=" + dir, "Environment=PATH=" + builtPath, "EnvironmentFile=" + EnvironmentFile,
		"ExecStart=/usr/bin/env --" + execWords(s.Command), "",
	}, "\n")}
}

func startTimeout(s *v1alpha1.PreviewSetup) string {
	return fmt.Sprintf("TimeoutStartSec=%dms", s.Timeout.Milliseconds())
}

// service is the unit of a process of the application.
func service(s v1alpha1.PreviewService) v1alpha1.SetupFile {
	return unit(serviceUnit(s.Name), "Service "+s.Name+" of the application", s.WorkingDirectory, s.Environment, s.Command,
		"Type=exec", "Restart=always", "RestartSec=1s", "Slice="+slice)
}

// unit renders a unit of systemd. What the application wrote stands in it only quoted.
func unit(name, description, dir string, env map[string]string, command []string, service ...string) v1alpha1.SetupFile {
	lines := append([]string{"[Unit]", "Description=" + description, "", "[Service]"}, service...)
	lines = append(lines,
		"WorkingDirectory="+path.Join(Checkout, dir),
		"Environment=HOME="+v1alpha1.PreviewHome+" LANG=C.UTF-8",
		"EnvironmentFile="+EnvironmentFile)
	// User= would need a name for the number. env(1) looks the program up, and no
	// word of the application's is the first, where systemd looks for signs of its
	// own. Variables of a service are its arguments: Environment= would yield to
	// the file.
	exec := "ExecStart=" + asUser
	for _, k := range slices.Sorted(maps.Keys(env)) {
		exec += " " + execQuote(k+"="+env[k])
	}
	return v1alpha1.SetupFile{Path: unitDir + name, Mode: 0o444, Content: strings.Join(append(lines, exec+execWords(command)), "\n") + "\n"}
}

// execWords are the words of a command behind others.
func execWords(command []string) string {
	var b strings.Builder
	for _, word := range command {
		b.WriteString(" " + execQuote(word))
	}
	return b.String()
}

// execQuote writes a word so that systemd reads it back as it is: quotes,
// escapes, specifiers (%) and variables ($) are its syntax.
func execQuote(word string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(word) {
		switch c := word[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '%' || c == '$':
			b.WriteByte(c)
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
