# A service of NixOS's own in a machine of its own: Vaultwarden, with its data in
# a volume. Any other module of services.* goes in its place.
#
#   spec:
#     system: {storePath: /nix/store/…-nixos-system-service}
#     volumes: [{name: data, path: /var/lib/vaultwarden}]
#     routes: [{host: vault.example.org, port: 8000}]
{ ... }:
{
  imports = [ ./base.nix ];

  services.vaultwarden = {
    enable = true;
    config = {
      ROCKET_ADDRESS = "0.0.0.0"; # its only address; who reaches it is the host's to decide
      ROCKET_PORT = 8000;
      SIGNUPS_ALLOWED = false;
    };
  };
  # ADMIN_TOKEN, for instance, by spec.credentials with env.
  systemd.services.vaultwarden.serviceConfig.EnvironmentFile = [ "-/run/tekton-environment" ];
}
