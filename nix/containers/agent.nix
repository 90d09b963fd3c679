# A workspace for coding agents: a user with sudo and the usual tools, whom ssh
# lets in.
#
#   kind: Agent
#   spec:
#     system: {storePath: /nix/store/…-nixos-system-agent}
#     sshKeys: [ssh-ed25519 AAAA… me@laptop]
#     credentials: [{name: model-token, env: CLAUDE_CODE_OAUTH_TOKEN}]
#
# tekton delivers the host key, the keys that may log in, variables and
# credentials; the last two belong to id 1000, and so does the home, a volume.
{ pkgs, ... }:
{
  imports = [ ./base.nix ];

  users.users.agent = {
    isNormalUser = true;
    uid = 1000;
    extraGroups = [ "wheel" ];
  };
  security.sudo.wheelNeedsPassword = false;

  services.openssh = {
    enable = true;
    hostKeys = [ ]; # none of its own
    authorizedKeysInHomedir = false;
    authorizedKeysFiles = [ "/run/tekton-keys/%u" ];
    settings = {
      PasswordAuthentication = false;
      KbdInteractiveAuthentication = false;
      PermitRootLogin = "no";
      # All come from the host's address: who has no key would lock out who has one.
      PerSourcePenalties = "no";
    };
    extraConfig = "HostKey /run/tekton-ssh/host_key";
  };

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

  # The volume is empty at first.
  systemd.tmpfiles.settings.agent."/home/agent".d = {
    user = "agent";
    group = "users";
    mode = "0700";
  };

  # Variables of the spec, secrets among them, in every shell of the user; others
  # cannot read the file, and they are in no unit and no store path.
  environment.extraInit = ''
    if [ -r /run/tekton-environment ]; then
      set -a
      . /run/tekton-environment
      set +a
    fi
  '';
}
