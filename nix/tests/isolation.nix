# What a machine must not reach stays out of reach, also after the firewall was
# flushed and loaded anew while no daemon was there to repair tekton's own table.
{ pkgs }:
let
  spec = import ./spec.nix pkgs;
  web = port: {
    wantedBy = [ "multi-user.target" ];
    serviceConfig.ExecStart = "${pkgs.python3}/bin/python3 -m http.server ${toString port}";
  };
in
{
  nodes = {
    lan = {
      services.tekton.enable = pkgs.lib.mkForce false;
      networking.firewall.allowedTCPPorts = [ 8000 ];
      systemd.services.web = web 8000;
    };
    server = {
      networking.firewall.allowedTCPPorts = [ 9999 ];
      systemd.services.web = web 9999;
    };
  };

  testScript =
    { nodes, ... }:
    ''
      lan_address = "${nodes.lan.networking.primaryIPAddress}"
      start_all()
      lan.wait_for_open_port(8000)
      server.wait_for_open_port(9999)
      server.wait_for_unit("tektond.service")
      server.copy_from_host("${spec "one" { }}", "/var/lib/tekton/specs/one.yaml")
      server.copy_from_host("${spec "two" { }}", "/var/lib/tekton/specs/two.yaml")
      server.wait_until_succeeds("tekton wait --for=condition=Ready container/one container/two --timeout 120s")
      other = server.succeed("tekton get two -o json | jq --raw-output '.items[0].status.address'").strip()

      def connect(address, port):
          code = f"import socket; socket.create_connection(('{address}', {port}), 3)"
          return f'tekton exec one -- python3 -c "{code}"'

      def closed():
          for address, port in [(other, 8080), ("10.100.0.1", 9999), (lan_address, 8000)]:
              server.fail(connect(address, port))

      with subtest("what is tried is there, and its own port is reached"):
          server.succeed(f"curl --fail --max-time 5 http://{lan_address}:8000/")
          server.succeed("curl --fail --max-time 5 http://127.0.0.1:9999/")
          server.succeed(connect("127.0.0.1", 8080))
      closed()

      with subtest("without daemon and without tekton's table"):
          server.succeed("systemctl stop tektond.service")
          server.succeed("nft flush ruleset && systemctl reload nftables.service")
          server.fail("nft list table inet tekton")
          server.succeed("nft list table inet tekton-static")
          # The command line needs the daemon; the machine's own namespaces do.
          pid = server.succeed("pgrep --full --oldest 'http.server 8080'").strip()
          for address, port in [("10.100.0.1", 9999), (lan_address, 8000)]:
              server.fail(f"nsenter --target {pid} --net curl --fail --max-time 3 http://{address}:{port}/")
    '';
}
