package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
	"tekton.host/pkg/server/wire"
	"tekton.host/pkg/spec"
)

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "version", Short: "Print the versions of this program and of the daemon", Args: cobra.NoArgs}
	output := formatFlag(cmd, asJSON, asYAML)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f, err := output()
		if err != nil {
			return err
		}
		v := struct {
			Client v1alpha1.VersionInfo  `json:"client"`
			Daemon *v1alpha1.VersionInfo `json:"daemon,omitempty"`
		}{Client: wire.Build()}
		daemon, err := a.client.Version(cmd.Context())
		if err == nil {
			v.Daemon = &daemon
		} else if _, ok := errors.AsType[*client.UnreachableError](err); !ok {
			return err
		}
		if f != asTable {
			return a.write(f, v)
		}
		a.say("tekton  %s %s %s", v.Client.Version, v.Client.GoVersion, v.Client.APIVersion)
		if v.Daemon == nil {
			a.warn("%v", err)
			return nil
		}
		a.say("tektond %s %s %s installation %s", v.Daemon.Version, v.Daemon.GoVersion, v.Daemon.APIVersion, joined("/", v.Daemon.Installation, v.Daemon.Instance))
		return nil
	}
	return cmd
}

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema KIND",
		Short: "Print the JSON Schema of a kind",
		Args:  cobra.ExactArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return spec.Kinds(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			kind, err := anyKind(args[0])
			if err != nil {
				return err
			}
			_, err = a.out.Write(spec.Schema(kind))
			return err
		},
	}
}
