# Evaluates the module with nixpkgs' own module system, without building: what a
# derivation would hold is compared as text. See hack/check-nix.sh.
{ nixpkgsLib }:
let
  lib = import nixpkgsLib;
  inherit (lib) types;

  derivation = name: { type = "derivation"; inherit name; outPath = "/nix/store/${name}"; };
  pkgs = {
    stdenv.buildPlatform.canExecute = _: true;
    stdenv.hostPlatform = { };
    writeText = name: text: derivation name // { inherit text; };
    runCommand = name: _: script: derivation name // { inherit script; };
  }
  // lib.genAttrs [ "caddy" "coreutils" "git" "nftables" "openssh" "postgresql" "tekton" "util-linux" ] derivation;

  evaluate =
    module:
    let
      result = (lib.evalModules {
        modules = [ ./stubs.nix ../module.nix module ];
        specialArgs = { inherit pkgs; };
      }).config;
      failed = map (a: a.message) (lib.filter (a: !a.assertion) result.assertions);
    in
    if failed == [ ] then result else throw (lib.concatStringsSep "\n" failed);
  fails = module: !(builtins.tryEval (builtins.deepSeq (evaluate module).services.tekton.hostConfig true)).success;
  enabled = settings: { services.tekton = { enable = true; inherit settings; }; };

  minimal = evaluate { services.tekton.enable = true; };
  example = evaluate ../hosts/example.nix;
  second = evaluate { networking.nftables.enable = true; services.tekton = { enable = true; settings.instance = "demo"; settings.dns.mode = "none"; }; };
  # Without NixOS's own options: what the files say, taken as it is.
  container = file: (lib.evalModules {
    modules = [
      file
      { config._module.freeformType = types.lazyAttrsOf types.anything; }
    ];
    specialArgs.pkgs = pkgs // {
      writeShellScript = name: text: builtins.deepSeq text (derivation name);
    }
    // lib.genAttrs (lib.splitString " " "bash cargo curl fd gcc git gnumake go jq nodejs openssh python3 ripgrep rustc tmux vim") derivation;
  }).config;
  containers = map container [ ../containers/agent.nix ../containers/preview-node.nix ../containers/service.nix ];
  # The flake's own outputs, as far as they are not NixOS's to evaluate.
  flake = (import ../../flake.nix).outputs {
    self = flake // { shortRev = "0123456"; };
    nixpkgs = {
      inherit lib;
      legacyPackages = lib.genAttrs [ "aarch64-linux" "x86_64-linux" ] (_: {
        callPackage = file: args: import file ({
          inherit lib;
          inherit (pkgs) stdenv;
          buildGo126Module = package: package;
          installShellFiles = "";
        } // args);
      });
    };
  };
  # A repository's own configuration, with the base of all machines.
  preview = (import ../previews {
    nixpkgs.lib = lib // {
      nixosSystem = { modules }: lib.evalModules {
        modules = modules ++ [ { config._module.freeformType = types.lazyAttrsOf types.anything; } ];
        specialArgs.pkgs = pkgs // lib.genAttrs [ "bash" "git" "nodejs" ] derivation;
      };
    };
  } { modules = [ ({ config, ... }: { system.build.toplevel = config; }) ]; } (import ../previews/preview-config.nix));
  package = flake.packages.x86_64-linux.default;
  unit = example.systemd.services.tektond;
  status = module: (evaluate { services.tekton = { enable = true; settings.instance = "w"; status = { enable = true; } // module; }; });
  webhook = (evaluate {
    services.tekton = {
      enable = true;
      settings.instance = "w";
      webhook = { enable = true; credentials.github = "/run/secrets/github"; settings.forges = [ { name = "github"; type = "github"; secretFiles = [ "github" ]; tokenFile = "github"; } ]; };
    };
  });

  checks = {
    "the module leaves a host without it alone" = (evaluate { }).systemd.services == { };
    "the daemon says that it is ready, and is watched" = unit.serviceConfig.Type == "notify" && unit.serviceConfig.WatchdogSec != "";
    "machines outlive the daemon" = unit.serviceConfig.KillMode == "process" && !unit.stopIfChanged;
    "the daemon writes below its own directories only" = unit.serviceConfig.ProtectSystem == "strict"
      && unit.serviceConfig.ReadWritePaths == [ "/var/lib/tekton" "/run/tekton" "-/nix/var/nix/gcroots" "-/var/lib/tekton-previews" "-/var/lib/tekton-webhook/specs" ];
    "the daemon loads no modules and does not set the clock" = unit.serviceConfig.ProtectKernelModules
      && lib.hasPrefix "~" unit.serviceConfig.CapabilityBoundingSet
      && lib.all (c: lib.hasInfix c unit.serviceConfig.CapabilityBoundingSet) [ "CAP_SYS_MODULE" "CAP_SYS_TIME" "CAP_SYS_RAWIO" ];
    "what the daemon hands on to tekton exec is not confined" = !(unit.serviceConfig ? NoNewPrivileges)
      && !(unit.serviceConfig ? SystemCallFilter) && !(unit.serviceConfig ? RestrictNamespaces) && !(unit.serviceConfig ? RestrictAddressFamilies);
    "a wrong configuration is not tried again" = unit.serviceConfig.RestartPreventExitStatus == 78;
    "the slice is left to the daemon" = !(example.systemd ? slices);
    "its programs are in its path" = map (p: p.name) unit.path == [ "systemd" "nftables" "util-linux" "caddy" "postgresql" "git" "openssh" ];
    "the Host file is validated when it is built" = lib.hasInfix "/bin/tekton validate " minimal.services.tekton.hostFile.script;
    "iptables and nftables each get their own wildcard" = minimal.networking.firewall.interfaces ? "tk+" && example.networking.firewall.interfaces ? "tk*";
    "machines reach DNS, PostgreSQL and the ingress" = example.networking.firewall.interfaces."tk*".allowedTCPPorts == [ 53 5432 80 443 ];
    "the world reaches the ingress where it was asked for" = minimal.networking.firewall.allowedTCPPorts == [ ] && lib.naturalSort (map toString example.networking.firewall.allowedTCPPorts) == [ "80" "443" "8443" ];
    "the second layer comes with the system's rules" = lib.hasInfix "169.254.169.254/32" example.networking.nftables.tables.tekton-static.content;
    "a second daemon has its own" = second.networking.nftables.tables ? "tekton-static-demo" && second.networking.firewall.interfaces ? "tkdemo*"
      && second.networking.firewall.interfaces."tkdemo*".allowedUDPPorts == [ ]
      && second.systemd.services.tektond.serviceConfig.ReadWritePaths == [ "/var/lib/tekton-demo" "/run/tekton-demo" "-/nix/var/nix/gcroots" ];
    "networkd keeps rules that are not its own" = example.systemd.network.config.networkConfig.ManageForeignRoutingPolicyRules == false;
    "users" = minimal.users.groups ? tekton && minimal.users.users.caddy.isSystemUser && minimal.users.users.postgres.isSystemUser
      && example.users.groups.tekton.members == [ "admin" ];
    "who may only read has a group where one is named" = (evaluate (enabled { readSocketGroup = "tekton-webhook"; })).users.groups ? tekton-webhook
      && !(minimal.users.groups ? tekton-webhook);
    "the previews' directory stays theirs" = example.systemd.tmpfiles.settings."10-tekton"."/var/lib/tekton-previews".d.user == ":root";
    "the host's own Caddy imports tekton's sites, and no other is brought along" =
      let system = evaluate (enabled { ingress.mode = "system"; });
      in lib.hasInfix "import /var/lib/tekton/services/caddy/current/*.caddy" system.services.caddy.extraConfig
        && system.services.caddy.enable && !(system.users.users ? caddy)
        && system.services.tekton.hostConfig.spec.ingress.caddyfile == "/etc/caddy/caddy_config"
        && map (p: p.name) system.systemd.services.tektond.path == [ "systemd" "nftables" "util-linux" "postgresql" "git" "openssh" ]
        && !minimal.services.caddy.enable && minimal.services.caddy.extraConfig == "";
    "the host's own PostgreSQL lets machines in, and brings the programs for dumps" =
      let system = evaluate (enabled { postgres.mode = "system"; subnet = "10.7.0.16/28"; });
      in lib.hasPrefix "host sameuser all 10.7.0.16/28 scram-sha-256\nhost all all 10.7.0.16/28 reject" system.services.postgresql.authentication
        && system.services.postgresql.enable && system.services.postgresql.settings.listen_addresses == "localhost,10.7.0.17"
        && system.boot.kernel.sysctl."net.ipv4.ip_nonlocal_bind" == 1 && !(system.users.users ? postgres)
        && lib.elem "postgresql_18" (map (p: p.name) system.systemd.services.tektond.path)
        && lib.elem 5432 system.networking.firewall.interfaces."tk+".allowedTCPPorts
        && !minimal.services.postgresql.enable && fails (enabled { postgres.mode = "system"; instance = "a"; });
    "the host resolves names of machines where it is asked to" =
      let resolving = evaluate (enabled { dns.resolved = true; });
      in resolving.services.resolved.enable && resolving.systemd.tmpfiles.settings."10-tekton" ? "/run/systemd/resolved.conf.d"
        && lib.elem "/run/systemd/resolved.conf.d" resolving.systemd.services.tektond.serviceConfig.ReadWritePaths
        && !minimal.services.resolved.enable;
    "the host's own PostgreSQL listens where its operator says, too" =
      let with' = postgresql: lib.recursiveUpdate (enabled { postgres.mode = "system"; }) { services.postgresql = postgresql; };
      in (evaluate (with' { enableTCPIP = true; })).services.postgresql.settings.listen_addresses == "*"
        && (evaluate (with' { settings.listen_addresses = lib.mkForce "10.100.0.1, 192.0.2.1"; })).services.postgresql.settings.listen_addresses == "10.100.0.1, 192.0.2.1"
        && fails (with' { settings.listen_addresses = lib.mkForce "192.0.2.1"; });
    "a directory of secrets elsewhere is made, and open to root alone" =
      let elsewhere = evaluate (enabled { secretsDir = "/srv/tekton-secrets"; });
      in elsewhere.systemd.tmpfiles.settings."10-tekton"."/srv/tekton-secrets".d == { mode = ":0700"; user = ":root"; group = ":root"; }
        && lib.elem "/srv/tekton-secrets" elsewhere.systemd.services.tektond.serviceConfig.ReadWritePaths
        && !(minimal.systemd.tmpfiles.settings."10-tekton" ? "/var/lib/tekton/secrets");
    "limits may be replaced, also by another module's default" =
      let limits = (evaluate {
        services.tekton.enable = true;
        boot.kernel.sysctl = { "kernel.pid_max" = 32768; "fs.inotify.max_user_watches" = lib.mkDefault 524288; };
      }).boot.kernel.sysctl;
      in limits."kernel.pid_max" == 32768 && limits."fs.inotify.max_user_watches" == 524288 && limits."kernel.keys.maxkeys" == 5000;
    "a wrong word" = fails (enabled { ingress.tls = "on"; });
    "a wrong number" = fails (enabled { postgres.port = 70000; });
    "a wrong duration" = fails (enabled { trashFor = "3 days"; });
    "a wrong size" = fails (enabled { runtime.logMax = "500m"; });
    "an unknown field" = fails (enabled { subnets = "10.0.0.0/16"; });
    "a source without name" = fails (enabled { sources = [ { path = "/a"; } ]; });
    "a branch as a source brings Git along" =
      let branch = evaluate (enabled { sources = [ { name = "a"; git.url = "https://git.example.org/specs.git"; } ]; });
      in map (p: p.name) branch.systemd.services.tektond.path == [ "systemd" "nftables" "util-linux" "caddy" "postgresql" "git" "openssh" ]
        && branch.systemd.services.tektond.serviceConfig.ReadWritePaths == [ "/var/lib/tekton" "/run/tekton" "-/nix/var/nix/gcroots" ];
    "the webhook comes where it was asked for, and has no privileges" =
      let one = webhook.systemd.services.tekton-webhook.serviceConfig;
      in !(minimal.systemd.services ? tekton-webhook) && one.User == "tekton-webhook" && webhook.users.users.tekton-webhook.isSystemUser
        && one.CapabilityBoundingSet == "" && one.NoNewPrivileges && one.ProtectSystem == "strict" && !(one ? ReadWritePaths)
        && one.LoadCredential == [ "github:/run/secrets/github" ]
        && webhook.services.tekton.webhook.settings.socket == "/run/tekton-w/read.sock"
        && webhook.services.tekton.hostConfig.spec.readSocketGroup == "tekton-webhook";
    "the status page comes where it was asked for, has no privileges, and the sockets that it needs" =
      let
        plain = status { };
        signed = status { tokenFile = "/run/secrets/token"; };
        one = plain.systemd.services.tekton-status.serviceConfig;
      in !(minimal.systemd.services ? tekton-status) && one.User == "tekton-status" && plain.users.users.tekton-status.isSystemUser
        && one.CapabilityBoundingSet == "" && one.NoNewPrivileges && one.ProtectSystem == "strict" && one.IPAddressDeny == "any" && !(one ? ReadWritePaths)
        && plain.services.tekton.status.settings == { socket = "/run/tekton-w/read.sock"; } && one.LoadCredential == [ ]
        && plain.services.tekton.hostConfig.spec.readSocketGroup == "tekton-status" && !(plain.services.tekton.hostConfig.spec ? operateSocketGroup)
        && signed.services.tekton.status.settings.operateSocket == "/run/tekton-w/operate.sock" && signed.users.groups ? tekton-status
        && signed.systemd.services.tekton-status.serviceConfig.LoadCredential == [ "token:/run/secrets/token" ]
        && signed.services.tekton.hostConfig.spec.operateSocketGroup == "tekton-status"
        && (status { openLogs = true; }).services.tekton.hostConfig.spec.operateSocketGroup == "tekton-status"
        && fails { services.tekton = { enable = true; status = { enable = true; tokenFile = "${builtins.storeDir}/secret"; }; }; };
    "the page and the webhook read on one socket" =
      let both = evaluate { services.tekton = { enable = true; status.enable = true; webhook.enable = true; }; };
      in both.services.tekton.hostConfig.spec.readSocketGroup == "tekton-webhook"
        && both.systemd.services.tekton-status.serviceConfig.SupplementaryGroups == [ "tekton-webhook" ];
    "both read with a group of the operator's" =
      let own = evaluate { services.tekton = { enable = true; status.enable = true; webhook.enable = true; settings.readSocketGroup = "readers"; }; };
      in own.users.groups ? readers
        && lib.all (name: own.systemd.services.${name}.serviceConfig.SupplementaryGroups == [ "readers" ]) [ "tekton-status" "tekton-webhook" ];
    "the example host's webhook writes the source that is its own, with the secrets that it is given" =
      let one = example.systemd.services.tekton-webhook.serviceConfig;
      in lib.elem "/var/lib/${lib.head (lib.splitString " " one.StateDirectory)}" (map (s: s.path) example.services.tekton.settings.sources)
        && one.LoadCredential == [ "github:/var/secrets/github-webhook" "github-key:/var/secrets/github-app.pem" ];
    "no secret of the webhook is in the store" = fails {
      services.tekton = { enable = true; webhook = { enable = true; credentials.github = "${builtins.storeDir}/secret"; }; };
    };
    "supervised machines under a confined daemon" = fails (enabled { runtime.supervisor = "supervised"; });
    "networks to deny without nftables" = fails { services.tekton = { enable = true; denyNetworks = [ "10.0.0.0/8" ]; }; };
    "containers get no Nix daemon, no DHCP and their name from the spec" =
      lib.all (c: builtins.deepSeq c (c.boot.isContainer && !c.nix.enable && !c.networking.useDHCP && c.networking.hostName == "")) containers;
    "a preview has its base, its units and what it says of itself" =
      preview.toplevel.boot.isContainer && !preview.toplevel.nix.enable && preview.toplevel.nixpkgs.hostPlatform == "x86_64-linux"
        && lib.attrNames preview.toplevel.systemd.services == [ "preview-app" "setup-preview" ]
        && (builtins.fromJSON preview.previewMeta.text).setupService == "setup-preview";
    "an agent's sshd takes its keys from tekton alone" =
      let sshd = (lib.head containers).services.openssh;
      in sshd.enable && sshd.hostKeys == [ ] && sshd.extraConfig == "HostKey /run/tekton-ssh/host_key" && sshd.authorizedKeysFiles == [ "/run/tekton-keys/%u" ]
        && !sshd.authorizedKeysInHomedir && !sshd.settings.PasswordAuthentication;
    "the package has all programs, and says which version it is" =
      package.subPackages == map (name: "cmd/${name}") (lib.attrNames (builtins.readDir ../../cmd))
      && lib.any (lib.hasSuffix "wire.version=0123456") package.ldflags;
    "the package has the schemas that tekton new names" = lib.hasInfix "$out/share/tekton specs/*.schema.json" package.postInstall;
    "the flake has what the documents name" = lib.attrNames flake == [ "checks" "devShells" "lib" "nixosModules" "overlays" "packages" "templates" ]
      && flake.packages.aarch64-linux ? container-agent && builtins.pathExists (flake.templates.default.path + "/flake.nix");
    "right values" = !(fails (enabled { trashFor = "1h30m"; runtime.logMax = "8Mi"; sources = [ { name = "a"; path = "/a"; allow = { }; } ]; }));
  };
in
{
  failed = lib.attrNames (lib.filterAttrs (_: ok: !ok) checks);
  passed = lib.length (lib.attrNames (lib.filterAttrs (_: ok: ok) checks));
  minimal = minimal.services.tekton.hostConfig;
  example = example.services.tekton.hostConfig;
  # As NixOS puts them together.
  ruleset = lib.concatStrings (lib.mapAttrsToList (name: t: "table ${t.family} ${name} {\n${t.content}}\n")
    (example.networking.nftables.tables // lib.mapAttrs' (n: t: lib.nameValuePair "second-${n}" t) second.networking.nftables.tables))
    + "table inet nixos-fw {\nchain forward-allow {\n${example.networking.firewall.extraForwardRules}}\n"
    + "chain input-allow {\n${lib.concatMapStrings (i: "iifname ${i} tcp dport 53 accept\n") (lib.attrNames example.networking.firewall.interfaces)}}\n}\n";
  admission = (evaluate (enabled { sources = [ { name = "a"; path = "/a"; allow = { }; } ]; })).services.tekton.hostConfig;
}
