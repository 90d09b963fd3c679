package nix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/job"
	"tekton.host/pkg/resource"
)

const (
	reasonFetches = "FetchesWhileBuilding"
	reasonMeta    = "PreviewMetaInvalid"

	// configFile is what a stranger's code is called in messages.
	configFile = "preview-config.nix"
	// maxDerivation of which the beginning, its outputs, is read.
	maxDerivation = 64 << 10
)

// maxHeap of an evaluation is four times what a whole NixOS takes; besideHeap is
// for what Nix has in memory that is no value of its language.
const (
	maxHeap    = 4 << 30
	besideHeap = 1 << 30
)

// isolatedEnv is for the evaluation: settings of the host are not there, either.
// The number of CPUs is not to be looked for.
func (c *client) isolatedEnv() []string {
	return append(slices.Clone(c.env), "NIX_CONF_DIR="+c.home(), heapLimit(c.build.heap(maxHeap)), "GC_NPROCS=1")
}

// previewOutputs is applied to the flake's function, with the configuration's
// directory and its hash.
const previewOutputs = `make: let
  source = builtins.fetchTree { type = "path"; path = %s; narHash = %s; };
  build = make (import (source + "/preview-config.nix"));
  derivation = x: { drv = x.drvPath; out = x.outPath; output = x.outputName or "out"; };
in {
  toplevel = derivation build.toplevel;
  meta = derivation (build.previewMeta or (throw "system.build.previewMeta is not set: it is a file with what the preview consists of, as JSON"));
}`

// archive brings a locked flake and its locked inputs into the store, and returns
// the reference by which it is found there: its own may lead to the network, or to
// a directory of the host.
func (c *client) archive(ctx context.Context, locked string) (string, error) {
	out, err := c.nix(ctx, reasonLock, "flake", "archive", "--json", "--no-update-lock-file", locked)
	if err != nil {
		return "", err
	}
	var a struct{ Path string }
	if err := json.Unmarshal(out, &a); err != nil || filepath.Dir(a.Path) != storeDir {
		return "", job.Failed(reasonLock, "nix does not say where %s is in the store: %w", locked, errors.Join(err, fmt.Errorf("%q", a.Path)))
	}
	if _, query, _ := strings.Cut(locked, "?"); strings.Contains("&"+query, "&dir=") {
		return locked, nil // a path has no such part; what was fetched is in Nix's cache
	}
	return "path:" + a.Path, nil
}

// evaluatePreview asks for the derivations of a stranger's configuration. It
// sees the locked flake and its inputs; the network and the host's files are not there.
func (c *client) evaluatePreview(ctx context.Context, locked, attr string) ([]derivation, error) {
	flake, err := c.archive(ctx, locked)
	if err != nil {
		return nil, err
	}
	dir := c.config()
	if err := writeConfig(dir, c.build.Config); err != nil {
		return nil, err
	}
	hash, err := c.nix(ctx, reasonEvaluation, "hash", "path", dir)
	if err != nil {
		return nil, err
	}
	out, err := c.run(ctx, command{
		argv: []string{"nix", "--log-format", "internal-json", "eval", "--json", "--no-update-lock-file", "--option", "pure-eval", "true",
			"--option", "allow-import-from-derivation", "false",
			"--apply", fmt.Sprintf(previewOutputs, nixString(dir), nixString(strings.TrimSpace(string(hash)))), flake + "#" + attr},
		env: c.isolatedEnv(), evaluator: true, isolated: true, reason: reasonEvaluation,
	})
	if err != nil {
		return nil, err
	}
	var d struct{ Toplevel, Meta derivation }
	if err := json.Unmarshal(out, &d); err != nil {
		return nil, job.Failed(reasonEvaluation, "nix does not say what %s is: %w", configFile, err)
	}
	return []derivation{d.Toplevel, d.Meta}, errors.Join(d.Toplevel.check("system.build.toplevel"), d.Meta.check("system.build.previewMeta"))
}

// config is the directory of the configuration. It is not in home: whose that is
// could have root write elsewhere by a link.
func (c *client) config() string { return filepath.Join(c.build.Dir, configDir) }

// writeConfig makes a directory with the configuration alone; anybody may read it.
func writeConfig(dir, text string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, configFile), []byte(text), 0o644)
}

// nixString writes a string of Nix's language.
func nixString(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`).Replace(s) + `"`
}

// refuseFetches refuses to build what loads something while it is built. Such a
// derivation names the hash of its result, and has the host's network.
func (c *client) refuseFetches(ctx context.Context, d derivation) error {
	var missing []string
	_, err := c.run(ctx, command{
		argv: []string{"nix-store", "--realise", "--dry-run", d.Drv + "!" + d.Output}, env: c.env, evaluator: true, reason: reasonBuild,
		line: func(line []byte) {
			if path := strings.TrimSpace(string(line)); strings.HasPrefix(path, storeDir+"/") && strings.HasSuffix(path, ".drv") {
				missing = append(missing, path)
			}
		},
	})
	if err != nil {
		return err
	}
	for _, drv := range missing {
		fixed, err := hasFixedOutput(drv)
		if err != nil {
			return err
		}
		if fixed {
			return job.Failed(reasonFetches, "%s is to be built, and would have this host's network: it is in no binary cache; next step: do without it, load it in the setup, or have the operator allow it (Host spec.previews.nix.fetch)", storeName(drv))
		}
	}
	return nil
}

// outputs begin a derivation's file: (NAME, PATH, HASH ALGORITHM, HASH).
var outputs = regexp.MustCompile(`^Derive\(\[((?:\("[^"]*","[^"]*","[^"]*","[^"]*"\),?)+)\],`)
var plainOutput = regexp.MustCompile(`\("[^"]*","/[^"]*","",""\),?`)

// hasFixedOutput reports whether a derivation is not simply what its inputs make of it.
func hasFixedOutput(drv string) (bool, error) {
	f, err := os.Open(drv)
	if err != nil {
		return false, err
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, maxDerivation))
	if err != nil {
		return false, err
	}
	found := outputs.FindSubmatch(head)
	return found == nil || len(plainOutput.ReplaceAll(found[1], nil)) > 0, nil
}

// readMeta reads the file that a previewMeta was built to. It is a stranger's:
// a link would be followed with our rights.
func readMeta(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", job.Failed(reasonMeta, "system.build.previewMeta is no regular file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > resource.MaxPreviewMeta {
		return "", job.Failed(reasonMeta, "system.build.previewMeta is no regular file of at most %d KiB", resource.MaxPreviewMeta>>10)
	}
	text, err := io.ReadAll(io.LimitReader(f, resource.MaxPreviewMeta))
	if err == nil && (!utf8.Valid(text) || len(strings.TrimSpace(string(text))) == 0) {
		err = job.Failed(reasonMeta, "system.build.previewMeta is not JSON")
	}
	return string(text), err
}
