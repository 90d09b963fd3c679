package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/why"
)

func (a *app) agentSSHCommand() *cobra.Command {
	var identity string
	cmd := &cobra.Command{
		Use:   "ssh NAME [-- COMMAND...]",
		Short: "Log in to an agent by ssh, as its user",
		Long: "Log in to an agent by ssh, as its user. The host key is the one that the daemon says; no\nother is accepted. " +
			"Words of a command are joined by spaces and read by the user's shell, as\nssh does it. The exit code is ssh's.",
		Example:           "  tekton agent ssh fix-login\n  tekton agent ssh fix-login -- git -C work status",
		Args:              cobra.MinimumNArgs(1),
		Annotations:       map[string]string{ownSignals: "yes"},
		ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			command := args[1:]
			if len(command) > 0 && command[0] == "--" {
				command = command[1:]
			}
			item, err := a.agent(cmd.Context(), args[0])
			if err != nil {
				return notStarted(err)
			}
			return a.ssh(cmd.Context(), item, identity, command)
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVarP(&identity, "identity", "i", "", "file of the private key; default: as ssh chooses")
	return cmd
}

// ssh runs the system's client with the one host key that is right.
func (a *app) ssh(ctx context.Context, item v1alpha1.Item, identity string, command []string) error {
	s := item.Status
	if s.SSH == nil || s.Address == "" {
		return notStarted(&exit{code: exitError, err: fmt.Errorf("%s cannot be reached: %s", refOf(item), phaseText(item)), next: why.Next(item, a.now())})
	}
	program, err := exec.LookPath("ssh")
	if err != nil {
		return notStarted(&exit{code: exitError, err: fmt.Errorf("there is no ssh here: %w", err), next: "install it (Debian: openssh-client)"})
	}
	dir, err := os.MkdirTemp("", "tekton-ssh")
	if err != nil {
		return notStarted(err)
	}
	defer os.RemoveAll(dir)
	known, alias := filepath.Join(dir, "known_hosts"), item.Metadata.Name+".agent"
	if err := os.WriteFile(known, []byte(alias+" "+s.SSH.HostKey+"\n"), 0o600); err != nil {
		return notStarted(err)
	}
	cmd := exec.CommandContext(ctx, program, append(sshArgs(known, alias, identity, s.SSH.User, s.Address), command...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.out, a.err
	// What the terminal sends is for ssh, which gets it as well.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGQUIT)
	defer signal.Stop(signals)
	err = cmd.Run()
	if end, ended := errors.AsType[*exec.ExitError](err); ended {
		return &exit{code: max(end.ExitCode(), 1)}
	}
	if err != nil {
		return notStarted(err)
	}
	return nil
}

// sshArgs leave nobody's configuration a say in which host key is right.
func sshArgs(known, alias, identity, user, address string) []string {
	var args []string
	for _, option := range []string{
		`UserKnownHostsFile="` + known + `"`, "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes",
		"HostKeyAlias=" + alias, "HostKeyAlgorithms=ssh-ed25519", "CheckHostIP=no", "UpdateHostKeys=no", "VerifyHostKeyDNS=no",
		"ControlPath=none", "IgnoreUnknown=KnownHostsCommand", "KnownHostsCommand=none",
	} {
		args = append(args, "-o", option)
	}
	if identity != "" {
		args = append(args, "-i", identity, "-o", "IdentitiesOnly=yes")
	}
	return append(args, "-l", user, "--", address)
}
