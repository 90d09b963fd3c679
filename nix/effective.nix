# What the module itself must know of the Host file where a field is not set.
# The daemon has the defaults; TestModuleKnowsDefaults compares the two.
settings:
let
  or' = value: default: if value == null then default else value;
  managed = part: or' part.mode "managed" == "managed";
  used = part: part.mode != "none";
  suffix = if instance == "" then "" else "-${instance}";
  instance = or' settings.instance "";
  stateDir = or' settings.stateDir "/var/lib/tekton${suffix}";
  runDir = or' settings.runDir "/run/tekton${suffix}";
  secretsDir = or' settings.secretsDir "${stateDir}/secrets";
  sources = or' settings.sources [ { path = "${stateDir}/specs"; } ];
  when = condition: list: if condition then list else [ ];
  below = dir: path: builtins.substring 0 (builtins.stringLength dir + 1) path == "${dir}/";
  httpsPort = or' settings.ingress.httpsPort 443;
in
rec {
  inherit instance stateDir runDir secretsDir;
  supervisor = or' settings.runtime.supervisor "auto";
  socketGroup = or' settings.socketGroup "tekton";
  # The daemon makes what lies below its own directories itself.
  ownDirs = [ stateDir runDir ];
  sourceDirs = builtins.filter (path: path != null && !below stateDir path) (map (s: s.path or null) sources);
  secretDirs = when (!below stateDir secretsDir) [ secretsDir ];
  writable = ownDirs ++ secretDirs ++ dropInDirs;
  # Of systemd-resolved, for this boot.
  dropInDirs = when (settings.dns.resolved == true) [ "/run/systemd/resolved.conf.d" ];
  # With an instance the default is one of 150, which only the daemon knows.
  subnet = or' settings.subnet (if instance == "" then "10.100.0.0/16" else null);
  # The subnet's first address.
  service =
    let octets = builtins.match "([0-9]+[.][0-9]+[.][0-9]+[.])([0-9]+)/[0-9]+" subnet;
    in if subnet == null || octets == null then null
    else builtins.elemAt octets 0 + toString (builtins.fromJSON (builtins.elemAt octets 1) + 1);
  links = "tk${instance}";
  ingressPorts = when (used settings.ingress) ([ (or' settings.ingress.httpPort 80) ] ++ when (httpsPort != 0) [ httpsPort ]);
  dnsPorts = when (managed settings.dns) [ 53 ];
  databasePorts = when (used settings.postgres) [ (or' settings.postgres.port 5432) ];
  serviceUsers = when (managed settings.ingress) [ (or' settings.ingress.user "caddy") ] ++ when (managed settings.postgres) [ (or' settings.postgres.user "postgres") ] ++ [ (or' settings.git.user "tekton-git") ];
}
