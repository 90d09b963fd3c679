# Kernel limits that a host of many machines meets first. The host's own
# configuration may replace all of them, and so may any other module: of two
# defaults alike, as those of a desktop are for inotify, NixOS takes neither.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkEnableOption mkIf;
  mkFallback = lib.mkOverride 1400; # below mkDefault
  cfg = config.services.tekton;
in
{
  options.services.tekton.manyMachines = mkEnableOption "limits and compressed swap for hundreds of machines" // { default = true; };

  config = mkIf (cfg.enable && cfg.manyMachines) {
    boot.kernel.sysctl = {
      # Each system that boots takes some of the instances of its user, 128 by default.
      "fs.inotify.max_user_instances" = mkFallback 8192;
      "fs.inotify.max_user_watches" = mkFallback 1048576;
      # One session keyring a login; 200 by default.
      "kernel.keys.maxkeys" = mkFallback 5000;
      "kernel.keys.maxbytes" = mkFallback 2000000;
      "kernel.pid_max" = mkFallback 4194304;
      # Two neighbour entries a machine; 1024 for all links by default.
      "net.ipv4.neigh.default.gc_thresh1" = mkFallback 4096;
      "net.ipv4.neigh.default.gc_thresh2" = mkFallback 32768;
      "net.ipv4.neigh.default.gc_thresh3" = mkFallback 65536;
    };
    # Machines that idle cost memory that nobody reads.
    zramSwap.enable = mkFallback true;
  };
}
