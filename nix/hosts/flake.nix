{
  description = "A server with tekton";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    disko = {
      url = "github:nix-community/disko";
      inputs.nixpkgs.follows = "nixpkgs";
    };
    tekton = {
      url = "git+file:///srv/tekton"; # any address of tekton's repository
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  outputs =
    {
      nixpkgs,
      disko,
      tekton,
      ...
    }:
    {
      nixosConfigurations.server1 = nixpkgs.lib.nixosSystem {
        modules = [
          disko.nixosModules.disko
          tekton.nixosModules.default
          ./example.nix
        ];
      };
    };
}
