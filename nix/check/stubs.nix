# The options of NixOS that the module sets, with the types that NixOS gives
# them, as far as they matter here; and those that the example host sets, as they are.
{ config, lib, ... }:
let
  inherit (lib) mkIf mkOption types;
  set = type: mkOption { inherit type; default = { }; };
  list = type: mkOption { type = types.listOf type; default = [ ]; };
  fixed = value: mkOption { type = types.raw; default = value; };
  ports = {
    allowedTCPPorts = list types.port;
    allowedUDPPorts = list types.port;
  };
  bool = mkOption { type = types.bool; default = false; };
  submodule = options: types.submodule { inherit options; };
  anything = mkOption { type = types.anything; };
  scalar = types.oneOf [ types.bool types.int types.str ];
  # Of two definitions of one priority it takes neither, also where they are equal.
  sysctl = lib.mkOptionType {
    name = "sysctl";
    check = scalar.check;
    merge = lib.mergeOneOption;
  };
in
{
  options = {
    assertions = list types.unspecified;
    environment.systemPackages = list types.package;
    environment.etc = set (types.attrsOf (submodule { source = mkOption { type = types.path; }; }));
    users.groups = set (types.attrsOf (submodule { members = list types.str; }));
    users.users = set (types.attrsOf (types.submodule {
      freeformType = types.lazyAttrsOf types.anything;
      options = {
        isSystemUser = bool;
        group = mkOption { type = types.str; default = ""; };
      };
    }));

    services.resolved.enable = bool;
    services.caddy = {
      enable = bool;
      extraConfig = mkOption { type = types.lines; default = ""; };
      globalConfig = mkOption { type = types.lines; default = ""; };
    };

    services.postgresql = {
      enable = bool;
      enableTCPIP = bool;
      package = fixed { type = "derivation"; name = "postgresql_18"; outPath = "/nix/store/postgresql_18"; };
      authentication = mkOption { type = types.lines; default = ""; };
      settings = set (types.attrsOf scalar);
    };

    systemd.package = fixed { type = "derivation"; name = "systemd"; outPath = "/nix/store/systemd"; };
    systemd.services = set (types.attrsOf (submodule {
      description = mkOption { type = types.str; };
      wantedBy = list types.str;
      after = list types.str;
      wants = list types.str;
      restartTriggers = list types.unspecified;
      path = list types.package;
      stopIfChanged = mkOption { type = types.bool; default = true; };
      startLimitIntervalSec = mkOption { type = types.int; };
      serviceConfig = set (types.attrsOf (types.either scalar (types.listOf types.str)));
    }));
    systemd.tmpfiles.settings = set (types.attrsOf (types.attrsOf (types.attrsOf (submodule {
      mode = mkOption { type = types.str; default = "-"; };
      user = mkOption { type = types.str; default = "-"; };
      group = mkOption { type = types.str; default = "-"; };
    }))));
    systemd.network.config.networkConfig = set (types.attrsOf scalar);

    networking.hostName = mkOption { type = types.str; default = "nixos"; };
    networking.nftables.enable = bool;
    networking.nftables.tables = set (types.attrsOf (submodule {
      family = mkOption { type = types.enum [ "ip" "ip6" "inet" "arp" "bridge" "netdev" ]; };
      content = mkOption { type = types.lines; };
    }));
    networking.firewall = ports // {
      interfaces = set (types.attrsOf (submodule ports));
      extraForwardRules = mkOption { type = types.lines; default = ""; };
    };
    networking.dhcpcd.denyInterfaces = list types.str;
    networking.networkmanager.unmanaged = list types.str;

    boot.kernel.sysctl = set (types.attrsOf sysctl);
    zramSwap.enable = bool;

    boot.initrd = anything;
    boot.loader = anything;
    boot.swraid = anything;
    disko = anything;
    networking.useDHCP = anything;
    networking.useNetworkd = anything;
    nixpkgs = anything;
    security = anything;
    services.openssh = anything;
    system = anything;
    systemd.network.networks = anything;
  };

  config.services.postgresql.settings = mkIf config.services.postgresql.enable {
    listen_addresses = if config.services.postgresql.enableTCPIP then "*" else "localhost";
  };
}
