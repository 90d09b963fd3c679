# The host's own services where the Host file asks for them (mode "system"):
# services.caddy with the one line that imports tekton's sites.
{ config, lib, ... }:
let
  inherit (lib) mkAfter mkDefault mkIf mkMerge;
  cfg = config.services.tekton;
  effective = import ../effective.nix cfg.settings;
in
{
  config = mkIf cfg.enable (mkMerge [
    (mkIf (cfg.settings.ingress.mode == "system") {
      services.tekton.settings.ingress.caddyfile = mkDefault "/etc/caddy/caddy_config";
      services.caddy.enable = mkDefault true;
      services.caddy.extraConfig = mkAfter "import ${effective.stateDir}/services/caddy/current/*.caddy";
    })
  ]);
}
