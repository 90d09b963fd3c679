package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/spec"
)

// noSpec says where that is which others write a document of its own for.
var noSpec = map[string]string{
	"host":     "the daemon's own configuration is the file that tektond --config names, /etc/tekton/host.yaml where it was installed; tekton explain host.spec shows its fields",
	"secret":   "tekton secret set NAME keeps one on this host; tekton explain container.spec.credentials shows how a machine gets it",
	"database": "it is a part of what uses it: tekton explain container.spec.databases",
	"route":    "it is a part of what it leads to: tekton explain container.spec.routes",
	"volume":   "it is a part of what uses it: tekton explain container.spec.volumes",
}

func (a *app) newCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "new KIND NAME",
		Short:   "Print a commented spec to begin with",
		Example: "  tekton new container web >/var/lib/tekton/specs/web.yaml",
		Args:    cobra.ExactArgs(2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return lower(v1alpha1.Kinds()), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			kind, known := kindNamed(args[0], v1alpha1.Kinds())
			if hint, ok := noSpec[strings.TrimSuffix(strings.ToLower(args[0]), "s")]; !known && ok {
				return &exit{code: exitUsage, err: fmt.Errorf("%q is no kind of spec", args[0]), next: hint}
			}
			if !known {
				return noKind(args[0], v1alpha1.Kinds())
			}
			text := strings.ReplaceAll(string(spec.Template(kind)), "NAME", args[1])
			// What is printed is to work as it is: a name that is no name is said now.
			if _, problems := spec.Decode(args[1], []byte(text), spec.Options{}); len(problems) > 0 {
				return usage("%s", problems[0].Message)
			}
			_, err := a.out.Write([]byte(schemaLine(kind) + text))
			return err
		},
	}
}

// schemaLine tells editors with yaml-language-server where the schema is: that
// of the installation, else one beside the file.
func schemaLine(kind string) string {
	name := strings.ToLower(kind) + ".schema.json"
	line := "# yaml-language-server: $schema=%s\n"
	if exe, err := os.Executable(); err == nil {
		if exe, err = filepath.EvalSymlinks(exe); err == nil {
			// PREFIX/libexec/tekton/tekton, or PREFIX/bin/tekton of the Nix package → PREFIX/share/tekton.
			for _, share := range []string{"../../share/tekton", "../share/tekton"} {
				installed := filepath.Join(filepath.Dir(exe), share, name)
				if _, err := os.Stat(installed); err == nil {
					return fmt.Sprintf(line, installed)
				}
			}
		}
	}
	return fmt.Sprintf(line+"# (made by: tekton schema %s >%s)\n", name, strings.ToLower(kind), name)
}
