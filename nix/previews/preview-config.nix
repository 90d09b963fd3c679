# A Node.js application's own preview, to be copied to the top of its repository.
# The host brings the commit's files, so that no credential is needed in here.
{ pkgs, ... }:
let
  meta = {
    setupService = "setup-preview"; # runs for each commit
    appServices = [ "preview-app" ]; # start after it
    database = "host"; # DATABASE_URL; "container" for none, or one of its own
    routes = [
      {
        path = "/";
        port = 3000;
      }
    ];
    hostSecrets = [ ]; # of those that the operator grants
    extraHosts = [ ]; # { prefix = "admin"; routes = [ … ]; } is admin-NAME.DOMAIN
    checkout = true; # into app, below the home
  };
in
{
  users.users.preview = {
    isNormalUser = true;
    uid = 1000;
  };

  systemd.services.setup-preview = {
    description = "Setup of the application";
    path = with pkgs; [
      bash
      git
      nodejs
    ];
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      User = "preview";
      WorkingDirectory = "~";
      EnvironmentFile = "/etc/preview.env";
      TimeoutStartSec = "20min";
    };
    # At a new start of the machine there is nothing to do: then the file is not there.
    script = ''
      if [ -e .ready ] && [ ! -e /tmp/force-rebuild ]; then
        exit 0
      fi
      rm -f /tmp/force-rebuild
      cd app
      npm ci
      npm run build --if-present
      touch ../.ready
    '';
  };

  systemd.services.preview-app = {
    description = "The application";
    environment = {
      NODE_ENV = "production";
      PORT = "3000";
    };
    requires = [ "setup-preview.service" ];
    after = [ "setup-preview.service" ];
    path = with pkgs; [
      bash
      nodejs
    ];
    serviceConfig = {
      User = "preview";
      WorkingDirectory = "~";
      EnvironmentFile = "/etc/preview.env";
      Restart = "always";
      RestartSec = "5s";
    };
    script = "cd app; exec npm start";
  };

  system.build.previewMeta = pkgs.writeText "preview-meta.json" (builtins.toJSON meta);
}
