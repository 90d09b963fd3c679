# What a repository's preview-config.nix becomes: NixOS's own configuration with
# the base of tekton's machines. The result is what Host.spec.previews.nix.flake
# asks for: toplevel, and the previewMeta that the configuration sets.
#
# modules are the operator's: what each preview is to have beside its own.
{ nixpkgs }:
{
  system ? "x86_64-linux",
  modules ? [ ],
}:
configuration:
(nixpkgs.lib.nixosSystem {
  modules = [
    ../containers/base.nix
    {
      nixpkgs.hostPlatform = system;
      nixpkgs.config.allowUnfree = nixpkgs.lib.mkDefault true;
    }
    (nixpkgs.lib.setDefaultModuleLocation "preview-config.nix" configuration)
  ]
  ++ modules;
}).config.system.build
