# What an operator's flake is to previews in Nix, without nixpkgs: a function that
# makes of a repository's preview-config.nix what config.system.build is. Of NixOS
# it knows as much as such a file needs. A test puts a static busybox into tools/
# and, for systems that are to boot, a systemd into systemd/.
{
  outputs =
    { self }:
    let
      busybox = "${./tools}/busybox";
      build =
        name: attrs: script:
        derivation (
          attrs
          // {
            inherit name;
            system = builtins.readFile ./platform;
            builder = busybox;
            args = [
              "sh"
              "-c"
              "set -e; ${busybox} mkdir bin; ${busybox} --install -s bin; PATH=$PWD/bin; ${script}"
            ];
          }
        );
      pkgs = {
        writeText = name: text: build name { inherit text; } ''printf %s "$text" >$out'';
        # Programs as NixOS has them: PACKAGE/bin/PROGRAM.
        busybox = build "busybox" { } "mkdir -p $out/bin; cp ${busybox} $out/bin/; $out/bin/busybox --install -s $out/bin";
        inherit build;
      };
      lines = f: set: builtins.concatStringsSep "" (map (name: f name set.${name}) (builtins.attrNames set));
      value = v: if v == true then "yes" else toString v;
      unit =
        name: s:
        pkgs.writeText "${name}.service" ''
          [Unit]
          Description=${s.description or name}
          ${lines (key: units: "${key}=${toString units}\n") {
            After = s.after or [ ];
            Requires = s.requires or [ ];
          }}
          [Service]
          Environment=PATH=${builtins.concatStringsSep ":" (map (p: "${p}/bin") ((s.path or [ ]) ++ [ pkgs.busybox ]))}
          ${lines (key: v: "${key}=${value v}\n") (s.serviceConfig or { })}
          ${if s ? script then "ExecStart=${busybox} sh ${pkgs.writeText "${name}-start" s.script}" else ""}
        '';
      toplevel =
        config:
        let
          services = config.systemd.services or { };
          units = builtins.concatStringsSep " " (
            map (name: "${name}.service=${unit name services.${name}}") (builtins.attrNames services)
          );
          # Started at boot; others by their setup.
          started = builtins.filter (name: services.${name} ? wantedBy) (builtins.attrNames services);
          etc = config.environment.etc or { };
        in
        build "preview-system" { inherit units started; } ''
          mkdir -p $out/units
          for u in $units; do cp ''${u#*=} $out/units/''${u%%=*}; done
          mkdir $out/units/multi-user.target.wants
          for u in $started; do ln -s ../$u.service $out/units/multi-user.target.wants/; done
          ${lines (name: f: "cp ${pkgs.writeText "etc" f.text} $out/${name}\n") etc}
          cp ${./init} $out/init.in
          sed "s|@user@|${config.user or "preview"}|g; s|@busybox@|${busybox}|g; s|@systemd@|${if builtins.pathExists ./systemd then "${./systemd}" else "/none"}|g; s|@out@|$out|g" $out/init.in >$out/init
          rm $out/init.in
          chmod +x $out/init
        '';
    in
    {
      lib.mkPreview =
        module:
        let
          config = module {
            inherit config pkgs;
            lib = { };
          };
        in
        config.system.build // { toplevel = toplevel config; };
      # An agent's system, with what nix/containers/agent.nix has of sshd.
      agent = toplevel {
        user = "agent";
        systemd.services.sshd = {
          wantedBy = [ "multi-user.target" ];
          serviceConfig.Type = "exec";
          script = ''
            mkdir -p /run/sshd
            exec /usr/sbin/sshd -D -e -f ${pkgs.writeText "sshd_config" ''
              HostKey /run/tekton-ssh/host_key
              AuthorizedKeysFile /run/tekton-keys/%u
              PasswordAuthentication no
              KbdInteractiveAuthentication no
              PermitRootLogin no
              Subsystem sftp internal-sftp
            ''}
          '';
        };
      };
      # No function, and one that gives something else.
      lib.text = "text";
      lib.mkNothing = _: { };
    };
}
