# A workspace for coding agents: a user with sudo, the usual tools, secrets as
# files. Everything that the user makes lies in /home/agent: put a volume there.
#
#   spec:
#     system: {storePath: /nix/store/…-nixos-system-agent}
#     volumes: [{name: home, path: /home/agent}]
#     credentials: [{name: claude-token, secret: claude-token}]
{ pkgs, ... }:
{
  imports = [ ./base.nix ];

  users.users.agent = {
    isNormalUser = true;
    uid = 1000;
    extraGroups = [ "wheel" ];
  };
  security.sudo.wheelNeedsPassword = false;

  environment.systemPackages = with pkgs; [
    cargo
    curl
    fd
    gcc
    git
    gnumake
    go
    jq
    nodejs
    openssh
    python3
    ripgrep
    rustc
    tmux
    vim
  ];

  # Interpreters and programs that npm or pip bring expect the usual paths.
  programs.nix-ld.enable = true;

  # The volume is empty at first, and belongs to root.
  systemd.tmpfiles.settings.agent."/home/agent".d = {
    user = "agent";
    group = "users";
    mode = "0700";
  };

  # For shells only, and readable by the agent only: the token is in no unit and in no store path.
  systemd.services.agent-token = {
    description = "hand the token to the agent";
    wantedBy = [ "multi-user.target" ];
    after = [ "systemd-tmpfiles-setup.service" ];
    unitConfig.ConditionPathExists = "/run/credentials/claude-token";
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      ExecStart = "${pkgs.coreutils}/bin/install -m 0400 -o agent -g users /run/credentials/claude-token /run/agent-token";
    };
  };
  environment.interactiveShellInit = ''
    if [ -r /run/agent-token ]; then
      CLAUDE_CODE_OAUTH_TOKEN=$(cat /run/agent-token)
      export CLAUDE_CODE_OAUTH_TOKEN
    fi
  '';
}
