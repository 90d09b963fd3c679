# One revision of a Node.js application: cloned, installed and built in the
# machine, then served on port 3000.
#
#   spec:
#     system: {storePath: /nix/store/…-nixos-system-preview-node}
#     environment: {PREVIEW_REPO_URL: https://github.com/me/web.git, PREVIEW_REVISION: main}
#     credentials: [{name: preview-token, secret: github-token}]   # only for a private repository
#     databases: [{name: main}]                                    # $DATABASE_URL
#     routes: [{host: 42.preview.example.org, port: 3000}]
{ pkgs, ... }:
let
  # Git asks it for the password: the token is in no URL, no argument and no file of the clone.
  askpass = pkgs.writeShellScript "askpass" ''
    case $1 in
    Username*) echo x-access-token ;;
    *) cat "$RUNTIME_DIRECTORY/token" ;;
    esac
  '';
  # Credentials are root's.
  token = pkgs.writeShellScript "preview-token" ''
    if [ -e /run/credentials/preview-token ]; then
      install -m 0400 -o preview /run/credentials/preview-token "$RUNTIME_DIRECTORY/token"
    fi
  '';
  setup = pkgs.writeShellScript "preview-setup" ''
    set -eu
    : "''${PREVIEW_REPO_URL:?set it in spec.environment}" "''${PREVIEW_REVISION:=HEAD}"
    if [ -e "$RUNTIME_DIRECTORY/token" ]; then
      export GIT_ASKPASS=${askpass}
    fi
    export GIT_TERMINAL_PROMPT=0
    cd "$STATE_DIRECTORY"
    if [ ! -d app ]; then
      git init --quiet app
    fi
    cd app
    git fetch --quiet --depth=1 -- "$PREVIEW_REPO_URL" "$PREVIEW_REVISION"
    git reset --quiet --hard FETCH_HEAD
    npm ci
    npm run build --if-present
  '';
  common = {
    User = "preview";
    StateDirectory = "preview";
    EnvironmentFile = "-/run/tekton-environment"; # not there where a spec has no environment
    NoNewPrivileges = true;
    ProtectSystem = "strict";
    ProtectHome = true;
    PrivateTmp = true;
  };
  path = with pkgs; [
    bash
    git
    nodejs
  ];
in
{
  imports = [ ./base.nix ];

  users.users.preview = {
    isSystemUser = true;
    group = "preview";
    home = "/var/lib/preview";
  };
  users.groups.preview = { };

  systemd.services.preview-setup = {
    description = "clone and build the application";
    inherit path;
    environment.HOME = "/var/lib/preview";
    serviceConfig = common // {
      Type = "oneshot";
      RemainAfterExit = true;
      RuntimeDirectory = "preview-setup";
      ExecStartPre = "+${token}";
      ExecStart = setup;
      TimeoutStartSec = "20min";
    };
  };

  systemd.services.preview-app = {
    description = "the application";
    wantedBy = [ "multi-user.target" ];
    requires = [ "preview-setup.service" ];
    after = [ "preview-setup.service" ];
    inherit path;
    environment = {
      HOME = "/var/lib/preview";
      NODE_ENV = "production";
      PORT = "3000";
    };
    serviceConfig = common // {
      WorkingDirectory = "/var/lib/preview/app";
      ExecStart = "${pkgs.nodejs}/bin/npm start";
      Restart = "on-failure";
      RestartSec = "5s";
    };
  };
}
