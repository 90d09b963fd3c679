{
  description = "tekton: converges a host to YAML specs of containers, routes and databases";

  # 26.05 is the first release with the Go that go.mod asks for. There is no
  # flake.lock: whoever uses this flake pins nixpkgs, best with "follows".
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "aarch64-linux"
        "x86_64-linux"
      ];
      each = f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
      version = self.shortRev or self.dirtyShortRev or "unstable";
      containers = [
        "agent"
        "preview-node"
        "service"
      ];
      # The systems that spec.system.storePath names:
      # nix build .#packages.x86_64-linux.container-agent
      container =
        pkgs: name:
        (lib.nixosSystem {
          modules = [
            ./nix/containers/${name}.nix
            { nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system; }
          ];
        }).config.system.build.toplevel;
    in
    {
      lib.mkPreview = import ./nix/previews { inherit nixpkgs; };

      overlays.default = final: _: { tekton = final.callPackage ./nix/package.nix { inherit version; }; };

      nixosModules.default =
        { pkgs, ... }:
        {
          imports = [ ./nix/module.nix ];
          services.tekton.package = lib.mkDefault (pkgs.callPackage ./nix/package.nix { inherit version; });
        };

      packages = each (
        pkgs:
        {
          default = pkgs.callPackage ./nix/package.nix { inherit version; };
        }
        // lib.listToAttrs (map (name: lib.nameValuePair "container-${name}" (container pkgs name)) containers)
      );

      checks = each (
        pkgs:
        import ./nix/tests {
          inherit pkgs;
          module = self.nixosModules.default;
        }
        // {
          package = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
        }
      );

      devShells = each (pkgs: {
        default = pkgs.mkShell {
          packages = with pkgs; [
            caddy
            go_1_26
            nftables
            postgresql
          ];
        };
      });

      templates = {
        default = self.templates.server;
        server = {
          path = ./nix/hosts;
          description = "A dedicated server: RAID 1, Cloudflare Origin CA, specs of the operator and of previews";
        };
        previews = {
          path = ./nix/previews;
          description = "Systems of previews, out of the preview-config.nix of their repositories";
        };
      };
    };
}
