# services.tekton: the daemon as a part of a NixOS host.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault mkEnableOption mkIf mkOption optional types;
  cfg = config.services.tekton;
  fields = import ./host-options.nix { inherit lib; };
  effective = import ./effective.nix cfg.settings;
  canRun = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;

  withoutNull = value:
    if lib.isAttrs value then lib.mapAttrs (_: withoutNull) (lib.filterAttrs (_: v: v != null) value)
    else if lib.isList value then map withoutNull value
    else value;
in
{
  imports = [
    ./module/daemon.nix
    ./module/network.nix
    ./module/limits.nix
    ./module/system.nix
    ./module/webhook.nix
    ./module/status.nix
  ];

  options.services.tekton = {
    enable = mkEnableOption "tekton, which converges this host to YAML specs";

    package = mkOption {
      type = types.package;
      default = pkgs.tekton or (pkgs.callPackage ./package.nix { });
      defaultText = lib.literalExpression "pkgs.tekton";
      description = "Package with tekton's programs in one directory.";
    };

    metadata = fields.metadata;
    settings = fields.spec;

    operators = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "alice" ];
      description = "Users who may use the daemon's socket. They may do to machines what root may do.";
    };

    hostConfig = mkOption {
      type = types.attrs;
      readOnly = true;
      description = "The Host document that `metadata` and `settings` make.";
    };

    hostFile = mkOption {
      type = types.package;
      readOnly = true;
      description = "The Host file, validated by tekton itself when it is built.";
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = effective.supervisor != "supervised";
        message = "services.tekton.settings.runtime.supervisor: the module confines the daemon, and supervised machines would be its children; use auto or systemd";
      }
    ];

    services.tekton = {
      metadata.name = mkDefault (if config.networking.hostName == "" then "host" else config.networking.hostName);
      hostConfig = {
        apiVersion = "tekton.host/v1alpha1";
        kind = "Host";
        metadata = withoutNull cfg.metadata;
        spec = withoutNull cfg.settings;
      };
      hostFile =
        let
          file = pkgs.writeText "tekton-host.yaml" (builtins.toJSON cfg.hostConfig);
        in
        if canRun then
          pkgs.runCommand "tekton-host.yaml" { } ''
            ${cfg.package}/bin/tekton validate ${file}
            cp ${file} $out
          ''
        else
          file;
    };

    environment.systemPackages = [ cfg.package ];
    environment.etc."tekton/host.yaml".source = cfg.hostFile;

    users.groups = lib.mkMerge [
      { ${effective.socketGroup}.members = cfg.operators; }
      (lib.genAttrs effective.serviceUsers (_: { }))
      (mkIf (cfg.settings.readSocketGroup != null) { ${cfg.settings.readSocketGroup} = { }; })
      (mkIf (cfg.settings.operateSocketGroup != null) { ${cfg.settings.operateSocketGroup} = { }; })
    ];
    users.users = lib.genAttrs effective.serviceUsers (name: {
      isSystemUser = true;
      group = mkDefault name;
    });

    systemd.tmpfiles.settings."10-tekton" = lib.genAttrs effective.ownDirs (_: {
      d = { mode = "0711"; user = "root"; group = "root"; };
    }) // lib.genAttrs effective.sourceDirs (_: {
      # With a colon: only where it is not there yet, it may belong to whoever writes the specs.
      d = { mode = ":0755"; user = ":root"; group = ":root"; };
    }) // lib.genAttrs effective.secretDirs (_: {
      d = { mode = ":0700"; user = ":root"; group = ":root"; };
    });
  };
}
