# The daemon's unit. Machines, Caddy, PostgreSQL and DNS are units of their own,
# which systemd starts in tekton.slice: what confines the daemon does not reach
# them, and they live on when it is restarted. The slice is the daemon's to make.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkIf mkOption optional types;
  cfg = config.services.tekton;
  effective = import ../effective.nix cfg.settings;
  managed = part: part.mode == null || part.mode == "managed";
  ingress = managed cfg.settings.ingress;
  # What runtime nixos-container writes to; the unit container@ is NixOS's own.
  containerDirs = lib.optionalAttrs (config.boot.enableContainers or false) {
    "/etc/nixos-containers" = ":0755";
    "/var/lib/nixos-containers" = ":0700";
    "/nix/var/nix/profiles/per-container" = ":0700";
    "/nix/var/nix/gcroots/per-container" = ":0700";
  };
  # Of the host's own server the version is needed that it has: its client programs make and read dumps.
  postgres = cfg.settings.postgres.mode != "none" && cfg.settings.postgres.binDir == null;
  postgresPackage = if managed cfg.settings.postgres then cfg.postgresPackage else config.services.postgresql.package;
in
{
  options.services.tekton = {
    caddyPackage = mkOption {
      type = types.package;
      default = pkgs.caddy;
      defaultText = lib.literalExpression "pkgs.caddy";
      description = "Caddy of the managed ingress.";
    };
    postgresPackage = mkOption {
      type = types.package;
      default = pkgs.postgresql;
      defaultText = lib.literalExpression "pkgs.postgresql";
      description = "PostgreSQL of the managed databases. Data of another major version is refused by the daemon, not converted: name the version, and it changes only when you change it.";
    };
  };

  config = mkIf cfg.enable {
    systemd.tmpfiles.settings."10-tekton-containers" = builtins.mapAttrs (_: mode: {
      d = { inherit mode; user = "root"; group = "root"; };
    }) containerDirs;

    systemd.services."tektond" = {
      description = "tekton: converges this host to specs";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" "nftables.service" "firewall.service" "systemd-tmpfiles-setup.service" ];
      # A restart is seen by no machine; a stop would leave the host unattended while the system is switched.
      stopIfChanged = false;
      startLimitIntervalSec = 0;
      path = [
        config.systemd.package
        pkgs.nftables
        pkgs.util-linux
      ]
      ++ optional ingress cfg.caddyPackage
      ++ optional postgres postgresPackage
      ++ [ pkgs.git pkgs.openssh ];

      serviceConfig = {
        Type = "notify";
        NotifyAccess = "main";
        ExecStart = "${cfg.package}/bin/tektond --config ${cfg.hostFile}";
        ExecReload = "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
        WatchdogSec = "60s";
        Restart = "always";
        RestartSec = "1s";
        # A configuration that is wrong does not get better by trying again. (A crash,
        # also that of the watchdog's SIGABRT, is 2.)
        RestartPreventExitStatus = 78;
        KillMode = "process";

        # Children of the daemon enter machines (tekton exec), so nothing here may take
        # from them what a machine has: no NoNewPrivileges (sudo), no address families.
        ProtectSystem = "strict";
        ReadWritePaths = effective.writable ++ map (dir: "-${dir}") (
          # Roots of the garbage collector for what machines run on.
          [ "/nix/var/nix/gcroots" ] ++ builtins.attrNames containerDirs ++ effective.sourceDirs
        );
        ProtectHome = "read-only";
        ProtectKernelModules = true;
        ProtectKernelLogs = true;
        RestrictRealtime = true;
        KeyringMode = "private";
        UMask = "0022";
        CapabilityBoundingSet = "~CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_TIME CAP_SYS_PACCT CAP_SYS_BOOT CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_BPF CAP_PERFMON CAP_CHECKPOINT_RESTORE";
      };
    };
  };
}
