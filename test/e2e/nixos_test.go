package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/nix/nixtest"
	"tekton.host/test/systemdhost"
)

// systemExpression builds what a NixOS system is to tekton: an init, and a
// profile that it refers to, with the guest as its only program.
const systemExpression = `{ guest, generation }:
let
  make = name: attributes: script: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    args = [ "-ec" script ];
  } // attributes);
  sw = make "system-path" { inherit guest generation; } ''
    mkdir -p $out/bin $out/share
    cp $guest $out/bin/guest
    echo $generation >$out/share/generation
  '';
in
make "nixos-system" { inherit sw; } "mkdir $out; ln -s $sw $out/sw; cp $sw/bin/guest $out/init"
`

// nixosHost puts a store at /nix and an empty directory at /run, as a host has
// them that NixOS is about to make its own.
func nixosHost(t *testing.T) {
	t.Helper()
	nixtest.Store(t)
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/run", unix.MNT_DETACH) })
}

// build makes a system of a generation; nothing keeps it.
func (k *tekton) build(generation string) (system, sw string) {
	k.t.Helper()
	file := k.path("system.nix")
	k.check(os.WriteFile(file, []byte(systemExpression), 0o644))
	system = nixtest.Run(k.t, "nix-build", "--no-out-link", "--option", "sandbox", "false", file,
		"--arg", "guest", filepath.Join(k.programs, "guest"), "--argstr", "generation", generation)
	sw, err := os.Readlink(filepath.Join(system, "sw"))
	k.check(err)
	return system, sw
}

// activate makes a system the host's current one, as a switch does.
func (k *tekton) activate(system string) {
	k.t.Helper()
	k.check(os.Symlink(system, "/run/next"))
	k.check(os.Rename("/run/next", "/run/current-system"))
}

// collected runs Nix's own collector and tells which of the paths are gone.
func (k *tekton) collected(paths ...string) (gone []string) {
	k.t.Helper()
	nixtest.Collect(k.t)
	for _, p := range paths {
		if _, err := os.Lstat(p); err != nil {
			gone = append(gone, filepath.Base(p))
		}
	}
	return gone
}

// TestGarbageCollector runs, on a host with NixOS's layout, a machine of a closure
// and one of the host's own userland, and the real collector at every turn.
func TestGarbageCollector(t *testing.T) {
	if systemdhost.Inside() {
		return // /run is the host's own there
	}
	nixosHost(t)
	k := prepare(t)
	first, firstProfile := k.build("first")
	k.activate(first)
	k.check(os.Symlink("/run/current-system", "/nix/var/nix/gcroots/current-system"))
	closure, profile := k.build("closure")
	k.up()
	k.write("all.yaml",
		container("stored", "system: {storePath: "+closure+"}", "command: ["+closure+"/init, serve]", `user: "0"`, "probe: {http: {path: /ready, port: 8080}}"),
		container("own", "system: {host: true}", "command: [guest, serve]", "probe: {http: {path: /ready, port: 8080}}"))
	k.ready("stored", "own")
	k.settled()
	// Where docs/migrating.md copies the root of a container to.
	k.check(os.WriteFile(k.state("volumes/container/stored/.root/imported"), []byte("data"), 0o644))
	if got := k.mustAsk("stored", "/read", "path", "/imported"); got != "data" {
		t.Errorf("the volume that is the root holds %q", got)
	}

	second, secondProfile := k.build("second")
	k.activate(second)
	if gone := k.collected(first, firstProfile, second, secondProfile, closure, profile); gone != nil {
		t.Errorf("gone with machines that run on them, after a switch of the host: %q", gone)
	}
	generation := func(want string) {
		t.Helper()
		if got := k.mustAsk("own", "/read", "path", "/usr/share/generation"); got != want {
			t.Errorf("the machine on the host's userland has the %s one, want the %s", got, want)
		}
	}
	generation("first")
	boot := k.leader("own")
	k.must("restart", "own")
	k.eventually("own is restarted", func() error {
		if i := k.get("own"); k.leader("own") == boot || i.Status.Phase != "Ready" {
			return fmt.Errorf("leader %d: %s", k.leader("own"), i.Status.Phase)
		}
		return nil
	})
	generation("second")
	third, thirdProfile := k.build("third")
	k.activate(third)
	if gone := k.collected(first, firstProfile, second, secondProfile, closure, profile, third, thirdProfile); len(gone) != 2 || gone[0] != filepath.Base(first) {
		t.Errorf("after the restart: %q is gone, want the first system", gone)
	}

	// Somebody removes the roots while the daemon is dead.
	roots, err := filepath.Glob("/nix/var/nix/gcroots/tekton-*/*")
	if err != nil || len(roots) != 2 {
		t.Fatalf("roots %q %v, want one a machine", roots, err)
	}
	k.signal(syscall.SIGKILL)
	for _, r := range roots {
		k.check(os.Remove(r))
	}
	k.up()
	k.settled()
	if gone := k.collected(second, closure, profile); gone != nil {
		t.Errorf("gone although the next daemon has made the roots again: %q", gone)
	}
	k.must("delete", "stored", "own")
	k.gone("stored", "own")
	if gone := k.collected(second, secondProfile, closure, profile, third); len(gone) != 4 {
		t.Errorf("after the machines' end only %q is gone", gone)
	}
	if left, _ := filepath.Glob("/nix/var/nix/gcroots/tekton-*"); len(left) > 0 {
		t.Errorf("left of the roots: %q", left)
	}
}
