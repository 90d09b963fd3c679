# Kernel limits that a host of many machines meets first. All are defaults that
# the host's own configuration may replace.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkDefault mkEnableOption mkIf;
  cfg = config.services.tekton;
in
{
  options.services.tekton.manyMachines = mkEnableOption "limits and compressed swap for hundreds of machines" // { default = true; };

  config = mkIf (cfg.enable && cfg.manyMachines) {
    boot.kernel.sysctl = {
      # Each system that boots takes some of the instances of its user, 128 by default.
      "fs.inotify.max_user_instances" = mkDefault 8192;
      "fs.inotify.max_user_watches" = mkDefault 1048576;
      # One session keyring a login; 200 by default.
      "kernel.keys.maxkeys" = mkDefault 5000;
      "kernel.keys.maxbytes" = mkDefault 2000000;
      "kernel.pid_max" = mkDefault 4194304;
      # Two neighbour entries a machine; 1024 for all links by default.
      "net.ipv4.neigh.default.gc_thresh1" = mkDefault 4096;
      "net.ipv4.neigh.default.gc_thresh2" = mkDefault 32768;
      "net.ipv4.neigh.default.gc_thresh3" = mkDefault 65536;
    };
    # Machines that idle cost memory that nobody reads.
    zramSwap.enable = mkDefault true;
  };
}
