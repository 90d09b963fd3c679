package guest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"tekton.host/pkg/machine/handover"
)

const (
	// loginID is the user's id where the system does not have the user yet: a system
	// that boots makes it later, any other one gets it from us.
	loginID = 1000
	// sshdID is that of the account which sshd does without privileges what it can.
	sshdID = 65533
)

// prepareLogin puts in place what sshd needs, and returns the user it lets in.
func prepareLogin(d handover.Document) (user, error) {
	boots := len(d.Command) == 0
	u, err := loginUser(*d.Login, boots)
	if err != nil {
		return u, fmt.Errorf("user %s: %w", d.Login.User, err)
	}
	if err := writeVolatile(handover.HostKeyFile, d.Login.HostKey, 0, 0); err != nil {
		return u, fmt.Errorf("ssh host key: %w", err)
	}
	if boots {
		return u, nil // its own sshd reads the host key and the authorized keys
	}
	for _, dir := range []string{"/run/sshd", "/var/empty"} { // where Debian's and others' sshd shuts itself in
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return u, err
		}
	}
	if err := addAccount(user{name: "sshd", uid: sshdID, gid: sshdID, home: "/run/sshd"}, "/usr/sbin/nologin"); err != nil {
		return u, fmt.Errorf("account of sshd: %w", err)
	}
	config := sshdConfig(u.name, append(slices.Clone(d.Environment), d.SecretEnvironment...))
	return u, configureSSHD(d.Command[0], config)
}

// noPenalties of OpenSSH 9.8 and later, which else turns an address away from
// which keys were refused before: here everybody comes from the host's, and who
// has no key would lock out who has one. An older sshd does not start with it.
const noPenalties = "PerSourcePenalties no\n"

// configureSSHD writes the configuration that this sshd understands.
func configureSSHD(sshd string, config []byte) error {
	write := func(c []byte) error {
		if err := writeVolatile(handover.SSHDConfig, c, 0, 0); err != nil {
			return fmt.Errorf("configuration of sshd: %w", err)
		}
		return nil
	}
	if err := write(append(slices.Clone(config), noPenalties...)); err != nil {
		return err
	}
	if exec.Command(sshd, "-t", "-f", handover.SSHDConfig).Run() == nil {
		return nil
	}
	return write(config) // what it does not like of the rest, it says itself
}

// loginUser is the system's own, or else one that is made.
func loginUser(l handover.Login, boots bool) (user, error) {
	u := user{name: l.User, uid: loginID, gid: loginID, home: l.Home}
	if !boots {
		shell := "/bin/bash"
		if _, err := os.Stat(shell); err != nil {
			shell = "/bin/sh"
		}
		if err := addAccount(u, shell); err != nil {
			return u, err
		}
		if err := unlock(l.User); err != nil {
			return u, err
		}
	}
	passwd, err := readTable("/etc/passwd")
	if err != nil {
		return u, err
	}
	if boots && !hasAccount(passwd, l.User) {
		return u, nil
	}
	return resolveUser(l.User, passwd, nil)
}

func hasAccount(passwd [][]string, name string) bool {
	return slices.ContainsFunc(passwd, func(f []string) bool { return f[0] == name })
}

// addAccount makes a user that the system does not have.
func addAccount(u user, shell string) error {
	passwd, err := readTable("/etc/passwd")
	if err != nil || hasAccount(passwd, u.name) {
		return err
	}
	group, err := readTable("/etc/group")
	if err != nil {
		return err
	}
	id := strconv.Itoa(u.uid)
	for _, f := range passwd {
		if len(f) > 2 && f[2] == id {
			return fmt.Errorf("is not in /etc/passwd of this system, and id %s is taken there by %s: name that user instead", id, f[0])
		}
	}
	if !slices.ContainsFunc(group, func(f []string) bool { return f[0] == u.name || len(f) > 2 && f[2] == id }) {
		if err := addLine("/etc/group", u.name+":x:"+id+":"); err != nil {
			return err
		}
	}
	// "*" is no password's hash, and, unlike "!", no lock: keys let in.
	return addLine("/etc/passwd", strings.Join([]string{u.name, "*", id, id, "", u.home, shell}, ":"))
}

func addLine(file, line string) error {
	have, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if len(have) > 0 && !bytes.HasSuffix(have, []byte("\n")) {
		line = "\n" + line
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(line + "\n")
	return err
}

// unlock takes the lock off an account of the system that has no password, as
// useradd makes it: sshd would let nobody in.
func unlock(name string) error {
	const file = "/etc/shadow"
	have, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	lines := strings.Split(string(have), "\n")
	for i, line := range lines {
		f := strings.Split(line, ":")
		if f[0] != name || len(f) < 2 || !strings.HasPrefix(f[1], "!") {
			continue
		}
		f[1] = "*"
		lines[i] = strings.Join(f, ":")
		return os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o640)
	}
	return nil
}

// sshdConfig lets one user in, by key only, with the variables of the spec.
func sshdConfig(name string, environment []string) []byte {
	lines := []string{
		"ListenAddress 0.0.0.0:22",
		"HostKey " + handover.HostKeyFile,
		"AuthorizedKeysFile " + handover.KeysDir + "/%u",
		"AuthenticationMethods publickey",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"PermitRootLogin prohibit-password",
		"AllowUsers " + name,
		"UsePAM no",
		"PidFile none",
		"PrintMotd no",
		"AcceptEnv LANG LC_*",
		"Subsystem sftp internal-sftp",
	}
	// Only the first SetEnv counts: all variables are on one line.
	var set []string
	for _, kv := range environment {
		if strings.ContainsFunc(kv, unicode.IsControl) {
			name, _, _ := strings.Cut(kv, "=")
			fmt.Fprintf(os.Stderr, "tekton-init: variable %s has more than one line or a control character: it is not in ssh sessions\n", name)
			continue
		}
		set = append(set, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(kv)+`"`)
	}
	if len(set) > 0 {
		lines = append(lines, "SetEnv "+strings.Join(set, " "))
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}
