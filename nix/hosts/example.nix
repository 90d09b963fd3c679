# A whole server: two disks in RAID 1, TLS by a Cloudflare Origin CA certificate,
# specs of the operator and, with less power, of whatever makes previews, and
# previews of pull requests on GitHub: all of examples/ runs on it. Replace what
# is in capitals, and the domain; "nix flake init -t" copies this file for that.
{ ... }:
let
  home = "example.org";
  domain = "preview.${home}";
  # Copy both files here, readable by Caddy alone: install -o caddy -m 0400.
  certFile = "/var/secrets/cloudflare-origin.pem";
  keyFile = "/var/secrets/cloudflare-origin-key.pem";
  disk = device: {
    inherit device;
    type = "disk";
    content = {
      type = "gpt";
      partitions = {
        boot = {
          size = "1M";
          type = "EF02"; # GRUB, on both disks
        };
        mirror = {
          size = "100%";
          content = {
            type = "mdraid";
            name = "root";
          };
        };
      };
    };
  };
in
{
  networking.hostName = "server1";
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "26.05";

  disko.devices = {
    disk.one = disk "/dev/nvme0n1";
    disk.two = disk "/dev/nvme1n1";
    mdadm.root = {
      type = "mdadm";
      level = 1;
      content = {
        type = "gpt";
        partitions.root = {
          size = "100%";
          content = {
            type = "filesystem";
            format = "ext4"; # overlays and idmapped mounts work on it
            mountpoint = "/";
          };
        };
      };
    };
  };
  boot = {
    loader.grub.enable = true;
    swraid = {
      enable = true;
      mdadmConf = "MAILADDR root";
    };
    initrd.availableKernelModules = [ "ahci" "nvme" "sd_mod" ];
  };

  networking = {
    useNetworkd = true;
    useDHCP = false;
    nftables.enable = true;
  };
  systemd.network.networks."10-uplink" = {
    matchConfig.Name = "en*";
    networkConfig.DHCP = "ipv4";
  };

  services.openssh = {
    enable = true;
    settings = {
      PasswordAuthentication = false;
      PermitRootLogin = "prohibit-password";
    };
  };
  users.users.admin = {
    isNormalUser = true;
    extraGroups = [ "wheel" ];
    openssh.authorizedKeys.keys = [ "ssh-ed25519 YOUR-PUBLIC-KEY admin" ];
  };
  security.sudo.wheelNeedsPassword = false; # there is no password; the key is the way in

  # What makes previews writes here, and can ask for no more than "allow" below.
  users.users.previews = {
    isSystemUser = true;
    group = "previews";
  };
  users.groups.previews = { };
  systemd.tmpfiles.settings."20-previews"."/var/lib/tekton-previews".d = {
    user = "previews";
    group = "previews";
    mode = "0755";
  };

  services.tekton = {
    enable = true;
    openFirewall = true;
    operators = [ "admin" ];
    denyNetworks = [ "169.254.169.254/32" ];
    settings = {
      inherit domain;
      subnet = "10.200.0.0/16";
      ingress = {
        # Cloudflare terminates TLS for the world; its mode must be "Full (strict)".
        tls = "files";
        certificates = [
          {
            hosts = [
              home
              "*.${home}"
              "*.${domain}"
            ];
            inherit certFile keyFile;
          }
        ];
      };
      sources = [
        {
          name = "operator";
          path = "/var/lib/tekton/specs";
        }
        {
          name = "previews";
          path = "/var/lib/tekton-previews";
          allow = {
            kinds = [ "Container" ];
            domains = [ "*.${domain}" ];
            secrets = [ "github-token" ];
            maxObjects = 20;
          };
        }
        {
          # tekton-webhook writes it: previews of the operator's Repositories.
          name = "pull-requests";
          path = "/var/lib/tekton-webhook/specs";
          allow = {
            kinds = [ "Preview" ];
            repositories = [ "shop" ];
            domains = [ "*.${domain}" ];
            maxObjects = 20;
          };
        }
      ];
      previews.domain = domain;
      readSocketGroup = "tekton-webhook"; # may ask, and change nothing
      trashFor = "168h";
    };

    # docs/webhook.md makes the GitHub App and its two secrets, 0600 root; its
    # webhook's URL is https://webhook.example.org:8443/webhook/github.
    webhook = {
      enable = true;
      credentials = {
        github = "/var/secrets/github-webhook";
        github-key = "/var/secrets/github-app.pem";
      };
      settings.forges = [
        {
          name = "github";
          type = "github";
          secretFiles = [ "github" ];
          app = {
            id = "YOUR-APP-ID";
            keyFile = "github-key";
          };
        }
      ];
    };
  };

  # tekton's Caddy has ports 80 and 443, and serves machines only: this one lets
  # deliveries in, on another port that Cloudflare passes on.
  services.caddy = {
    enable = true;
    globalConfig = "auto_https disable_redirects"; # else it would listen on 80, too
    extraConfig = ''
      https://webhook.${home}:8443 {
        tls ${certFile} ${keyFile}
        handle /webhook/* {
          reverse_proxy 127.0.0.1:9180
        }
        respond 404
      }
    '';
  };
  networking.firewall.allowedTCPPorts = [ 8443 ];

  systemd.tmpfiles.settings."20-secrets"."/var/secrets".d.mode = "0711";
}
