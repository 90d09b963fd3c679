# What every NixOS system has in common that runs as a machine of tekton, with
# spec.system.storePath. Address, resolver, credentials and the firewall come
# from outside; units find the spec's environment in /run/tekton-environment.
{ lib, ... }:
{
  boot.isContainer = true;

  networking = {
    hostName = lib.mkDefault ""; # the spec's name
    useDHCP = false;
    firewall.enable = lib.mkDefault false; # the host's table decides, and the machine cannot change it
  };

  # Builds happen on the host: a machine has neither the daemon's socket nor the store's database.
  nix.enable = false;
  documentation.enable = lib.mkDefault false;
  services.journald.extraConfig = "SystemMaxUse=64M";
  system.stateVersion = lib.mkDefault "26.05";
}
