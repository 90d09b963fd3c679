{
  description = "Systems of previews, out of the preview-config.nix of their repositories";

  # Run `nix flake lock` and keep the flake.lock beside this file: a preview is
  # built from locked inputs only.
  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    tekton = {
      url = "git+file:///srv/tekton"; # any address of tekton's repository
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  outputs =
    { tekton, ... }:
    {
      # previews: {nix: {flake: "path:/srv/previews#lib.mkPreview"}} in the Host.
      lib.mkPreview = tekton.lib.mkPreview { system = "x86_64-linux"; };
    };
}
