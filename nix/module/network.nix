# The host's own network configuration lets machines through to what tekton's
# table allows them, and leaves tekton's links, rules and routes alone.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) concatMapStringsSep mkIf mkOption optionalString types;
  cfg = config.services.tekton;
  effective = import ../effective.nix cfg.settings;
  nftables = config.networking.nftables.enable;
  # nft and iptables write "begins with" differently.
  links = effective.links + (if nftables then "*" else "+");
  tcp = effective.dnsPorts ++ effective.databasePorts ++ effective.ingressPorts;
  set = ports: "{ ${concatMapStringsSep ", " toString ports} }";
in
{
  options.services.tekton = {
    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Open the ports of the managed ingress to everybody.";
    };
    denyNetworks = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "169.254.169.254/32" "192.168.1.0/24" ];
      description = "Networks that no machine reaches, whatever its spec says; needs networking.nftables.enable.";
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.denyNetworks == [ ] || nftables;
        message = "services.tekton.denyNetworks needs networking.nftables.enable";
      }
    ];

    networking.firewall = {
      allowedTCPPorts = mkIf cfg.openFirewall effective.ingressPorts;
      # tekton's own table decides which machine reaches which of these.
      interfaces.${links} = {
        allowedTCPPorts = tcp;
        allowedUDPPorts = effective.dnsPorts;
      };
      extraForwardRules = mkIf nftables ''
        iifname "${effective.links}*" accept
        oifname "${effective.links}*" accept
      '';
    };

    # The second layer. Another "nft flush ruleset" takes tekton's table away
    # until the daemon puts it back; one that comes with the system's own rules
    # is there again at once, also without a daemon. Policy routing covers the
    # private networks and the other machines; this covers the host's ports.
    networking.nftables.tables."tekton-static${optionalString (effective.instance != "") "-${effective.instance}"}" = mkIf nftables {
      family = "inet";
      content = ''
        chain input {
          type filter hook input priority filter - 20; policy accept;
          iifname != "${effective.links}*" accept
          meta nfproto ipv6 drop
          ct state established,related accept
          ${optionalString (tcp != [ ]) "tcp dport ${set tcp} accept"}
          ${optionalString (effective.dnsPorts != [ ]) "udp dport ${set effective.dnsPorts} accept"}
          drop
        }
        chain forward {
          type filter hook forward priority filter - 20; policy accept;
          iifname "${effective.links}*" meta nfproto ipv6 drop
          ${optionalString (cfg.denyNetworks != [ ]) "iifname \"${effective.links}*\" ip daddr { ${lib.concatStringsSep ", " cfg.denyNetworks} } drop"}
        }
      '';
    };

    # systemd-networkd removes rules and routes that are not its own, by default.
    systemd.network.config.networkConfig = {
      ManageForeignRoutingPolicyRules = false;
      ManageForeignRoutes = false;
    };
    networking.dhcpcd.denyInterfaces = [ "${effective.links}*" ];
    networking.networkmanager.unmanaged = [ "interface-name:${effective.links}*" ];
  };
}
