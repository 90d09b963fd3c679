# A flake of the tests: no inputs, no network. The test puts a static busybox
# into tools/ and a text into version.
{
  outputs =
    { self }:
    let
      busybox = "${./tools}/busybox";
      version = builtins.readFile ./version;
      build =
        name: script:
        derivation {
          inherit name version;
          system = builtins.readFile ./platform;
          builder = busybox;
          args = [
            "sh"
            "-c"
            "export PATH=/bin; ${busybox} mkdir -p bin; ${busybox} --install -s bin; PATH=$PWD/bin; ${script}"
          ];
        };
      web =
        after:
        build "web" ''
          set -e
          echo making web "$version" ${after}
          mkdir -p $out/www
          printf %s "$version" >$out/www/index.html
          cat >$out/init <<EOF
          #!${busybox} sh
          trap 'exit 0' TERM 37
          ${busybox} httpd -f -p 80 -h $out/www &
          wait
          EOF
          chmod +x $out/init
        '';
      step = n: build "step-${toString n}" "echo step ${toString n} works; sleep 1; echo ${toString n} >$out";
    in
    {
      # A system that boots: its init serves the version on port 80.
      web = web "";
      # The same, after a while.
      late = web "${step 1} ${step 2} ${step 3}";
      # One after the other, then all three together.
      chain = build "chain" "echo ${step 1} ${step 2} ${step 3} >$out";
      slow = build "slow" "echo going to sleep; sleep 600; echo late >$out";
      broken = build "broken" "echo about to break; echo broken for good >&2; exit 3";
      # Needs the content of something built, while it is evaluated.
      imported = import (build "imported-source" "echo '{ name = \"x\"; }' >$out") // self.web;
    };
}
