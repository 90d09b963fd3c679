# The host's own services where the Host file asks for them (mode "system"):
# services.caddy with the one line that imports tekton's sites, services.postgresql
# with the rule that lets machines in, systemd-resolved with a place for the drop-in.
{ config, lib, ... }:
let
  inherit (lib) mkAfter mkBefore mkDefault mkIf mkMerge mkOverride;
  cfg = config.services.tekton;
  effective = import ../effective.nix cfg.settings;
  postgresql = config.services.postgresql;
in
{
  config = mkIf cfg.enable (mkMerge [
    (mkIf (cfg.settings.ingress.mode == "system") {
      services.tekton.settings.ingress.caddyfile = mkDefault "/etc/caddy/caddy_config";
      services.caddy.enable = mkDefault true;
      services.caddy.extraConfig = mkAfter "import ${effective.stateDir}/services/caddy/current/*.caddy";
    })
    (mkIf (cfg.settings.dns.resolved == true) {
      services.resolved.enable = mkDefault true;
      # The daemon writes in it, and nowhere else beside.
      systemd.tmpfiles.settings."10-tekton" = lib.genAttrs effective.dropInDirs (_: {
        d = { mode = "0755"; user = "root"; group = "root"; };
      });
    })
    (mkIf (cfg.settings.postgres.mode == "system") {
      assertions = [
        {
          assertion = effective.subnet != null;
          message = "services.tekton.settings.subnet has to be set, as postgres.mode is system and there is an instance: PostgreSQL's rule names it";
        }
        {
          assertion = effective.service == null || lib.any (a: lib.elem (lib.trim a) [ "*" "0.0.0.0" effective.service ]) (lib.splitString "," postgresql.settings.listen_addresses);
          message = "services.postgresql.settings.listen_addresses needs ${toString effective.service} among them, as services.tekton.settings.postgres.mode is system: machines reach PostgreSQL there";
        }
      ];
      services.postgresql = {
        enable = mkDefault true;
        # Before nixpkgs' own value, after the operator's mkForce.
        settings.listen_addresses = mkOverride 90 (if postgresql.enableTCPIP then "*" else "localhost,${effective.service}");
        settings.port = mkIf (cfg.settings.postgres.port != null) (mkDefault cfg.settings.postgres.port);
        # Before all other lines that begin with host.
        authentication = mkBefore ''
          host sameuser all ${effective.subnet} scram-sha-256
          host all all ${effective.subnet} reject
        '';
      };
      # The address comes with the first machine.
      boot.kernel.sysctl."net.ipv4.ip_nonlocal_bind" = mkDefault 1;
    })
  ]);
}
