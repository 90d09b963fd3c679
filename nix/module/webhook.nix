# services.tekton.webhook: previews as pull requests are. The process has a user
# of its own and no privileges; its specs are a source of the daemon that admits
# only previews of Repositories.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkEnableOption mkIf mkOption types;
  cfg = config.services.tekton;
  webhook = cfg.webhook;
  effective = import ../effective.nix cfg.settings;
  # The type of pkgs.formats.yaml, which is JSON's.
  value = types.nullOr (types.oneOf [ types.bool types.int types.str (types.listOf value) (types.attrsOf value) ]) // {
    description = "YAML value";
  };
in
{
  options.services.tekton.webhook = {
    enable = mkEnableOption "previews of pull requests";
    settings = mkOption {
      type = types.attrsOf value;
      default = { };
      example = {
        forges = [ { name = "github"; type = "github"; secretFiles = [ "github" ]; app = { id = "12345"; keyFile = "github-key"; }; } ];
      };
      description = "The configuration of tekton-webhook. Files with secrets are named as in `credentials`.";
    };
    credentials = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = { github = "/run/secrets/github-webhook"; github-key = "/run/secrets/github-app.pem"; };
      description = "Files with secrets, which root reads when the service starts, by the names that `settings` has for them. Never in the store.";
    };
  };

  config = mkIf (cfg.enable && webhook.enable) {
    assertions = [
      {
        assertion = !lib.any (lib.hasPrefix builtins.storeDir) (lib.attrValues webhook.credentials);
        message = "services.tekton.webhook.credentials: everybody can read the store; name files outside of it";
      }
    ];

    services.tekton.webhook.settings.socket = lib.mkDefault "${effective.runDir}/read.sock";
    services.tekton.settings.readSocketGroup = lib.mkDefault "tekton-webhook";
    environment.etc."tekton/webhook.yaml".source = builtins.toFile "tekton-webhook.yaml" (builtins.toJSON webhook.settings);

    users.groups.tekton-webhook = { };
    users.users.tekton-webhook = {
      isSystemUser = true;
      group = "tekton-webhook";
    };

    systemd.services.tekton-webhook = {
      description = "tekton: previews of pull requests";
      wantedBy = [ "multi-user.target" ];
      after = [ "network-online.target" "tektond.service" ];
      wants = [ "network-online.target" ];
      restartTriggers = [ (builtins.toJSON webhook.settings) ];
      startLimitIntervalSec = 0;
      serviceConfig = {
        Type = "notify";
        NotifyAccess = "main";
        ExecStart = "${cfg.package}/bin/tekton-webhook --config /etc/tekton/webhook.yaml";
        Restart = "always";
        RestartSec = "1s";
        RestartPreventExitStatus = 78;
        User = "tekton-webhook";
        Group = "tekton-webhook";
        SupplementaryGroups = [ cfg.settings.readSocketGroup ];
        StateDirectory = "tekton-webhook/specs tekton-webhook/state";
        LoadCredential = lib.mapAttrsToList (name: path: "${name}:${path}") webhook.credentials;
        # As packaging/tekton-webhook.service; a test compares the two.
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
      };
    };
  };
}
