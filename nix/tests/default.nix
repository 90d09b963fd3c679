# Tests in virtual machines of NixOS. They need a NixOS builder with KVM ("nix
# flake check" on one) and run nowhere else: this project's own CI, which has
# none, only parses them. Its booted systemd host runs the same daemon on Debian.
{ pkgs, module }:
let
  test =
    name: test:
    pkgs.testers.runNixOSTest {
      name = "tekton-${name}";
      defaults = {
        imports = [ module ];
        environment.systemPackages = [
          pkgs.jq
          pkgs.python3
        ];
        networking.nftables.enable = true;
        services.tekton = {
          enable = true;
          settings.ingress.httpsPort = 0;
        };
      };
      inherit (test) nodes testScript;
    };
in
{
  life = test "life" (import ./life.nix { inherit pkgs; });
  isolation = test "isolation" (import ./isolation.nix { inherit pkgs; });
}
