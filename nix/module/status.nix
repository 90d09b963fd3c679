# services.tekton.status: the status page. The process has a user of its own and no
# privileges; what it may know and do is what the sockets of its groups answer.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkEnableOption mkIf mkOption types;
  cfg = config.services.tekton;
  status = cfg.status;
  effective = import ../effective.nix cfg.settings;
  # The type of pkgs.formats.yaml, which is JSON's.
  value = types.nullOr (types.oneOf [ types.bool types.int types.str (types.listOf value) (types.attrsOf value) ]) // {
    description = "YAML value";
  };
  operates = status.tokenFile != null || status.openLogs;
  # Below mkDefault: where somebody else reads, too, as the webhook does, it is that group.
  mkFallback = lib.mkOverride 1400;
in
{
  options.services.tekton.status = {
    enable = mkEnableOption "the status page, on 127.0.0.1:9190";
    settings = mkOption {
      type = types.attrsOf value;
      default = { };
      example = { hosts = [ "status.example.org" ]; };
      description = "The configuration of tekton-status.";
    };
    tokenFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/run/secrets/tekton-status-token";
      description = "File with what to sign in with, which root reads when the service starts; without it there are no actions. Never in the store.";
    };
    openLogs = mkOption {
      type = types.bool;
      default = false;
      description = "Show what programs print to everybody who reaches the page, without signing in.";
    };
  };

  config = mkIf (cfg.enable && status.enable) {
    assertions = [
      {
        assertion = status.tokenFile == null || !lib.hasPrefix builtins.storeDir status.tokenFile;
        message = "services.tekton.status.tokenFile: everybody can read the store; name a file outside of it";
      }
    ];

    services.tekton.status.settings = lib.mkMerge [
      { socket = lib.mkDefault "${effective.runDir}/read.sock"; }
      (mkIf status.openLogs { openLogs = true; })
      (mkIf (status.tokenFile != null) { tokenFile = lib.mkDefault "token"; })
      (mkIf operates { operateSocket = lib.mkDefault "${effective.runDir}/operate.sock"; })
    ];
    services.tekton.settings.readSocketGroup = mkFallback "tekton-status";
    services.tekton.settings.operateSocketGroup = mkIf operates (mkFallback "tekton-status");
    environment.etc."tekton/status.yaml".source = builtins.toFile "tekton-status.yaml" (builtins.toJSON status.settings);

    users.groups.tekton-status = { };
    users.users.tekton-status = {
      isSystemUser = true;
      group = "tekton-status";
    };

    systemd.services.tekton-status = {
      description = "tekton: status page";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" "tektond.service" ];
      restartTriggers = [ (builtins.toJSON status.settings) ];
      startLimitIntervalSec = 0;
      serviceConfig = {
        Type = "notify";
        NotifyAccess = "main";
        ExecStart = "${cfg.package}/bin/tekton-status --config /etc/tekton/status.yaml";
        Restart = "always";
        RestartSec = "1s";
        RestartPreventExitStatus = 78;
        User = "tekton-status";
        Group = "tekton-status";
        SupplementaryGroups = [ cfg.settings.readSocketGroup ] ++ lib.optional operates cfg.settings.operateSocketGroup;
        RuntimeDirectory = "tekton-status";
        RuntimeDirectoryMode = "0750";
        LoadCredential = lib.optional (status.tokenFile != null) "token:${status.tokenFile}";
        # As packaging/tekton-status.service; a test compares the two.
        CapabilityBoundingSet = "";
        NoNewPrivileges = true;
        ProtectSystem = "strict";
        ProtectHome = true;
        ProtectProc = "invisible";
        ProcSubset = "pid";
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        PrivateDevices = true;
        PrivateTmp = true;
        PrivateUsers = true;
        RestrictAddressFamilies = "AF_UNIX AF_INET AF_INET6";
        IPAddressDeny = "any";
        IPAddressAllow = "localhost";
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
        RemoveIPC = true;
        SystemCallArchitectures = "native";
        SystemCallFilter = "@system-service";
        SystemCallErrorNumber = "EPERM";
        KeyringMode = "private";
        UMask = "0022";
        MemoryMax = "256M";
        TasksMax = 64;
        CPUQuota = "100%";
      };
    };
  };
}
