# A machine comes, outlives its daemon and a switch of the system, comes back
# after a reboot, and goes without a trace.
{ pkgs }:
let
  hello = import ./spec.nix pkgs "hello" { databases = [ { name = "main"; } ]; };
in
{
  nodes.server.specialisation.changed.configuration = {
    services.tekton.settings.trashFor = "1h";
  };

  testScript = ''
    def ready():
        server.wait_until_succeeds("tekton wait --for=condition=Ready container/hello --timeout 120s")
        server.succeed("curl --fail --silent --header 'Host: hello.test' http://127.0.0.1/")

    def leader():
        return server.succeed("pgrep --full --oldest 'http.server 8080'")

    server.wait_for_unit("tektond.service")
    server.succeed("tekton validate /etc/tekton/host.yaml")
    server.copy_from_host("${hello}", "/var/lib/tekton/specs/hello.yaml")
    ready()

    with subtest("machines do not see a restart of the daemon, nor a switch"):
        before = leader()
        server.succeed("systemctl restart tektond.service")
        ready()
        server.succeed("/run/current-system/specialisation/changed/bin/switch-to-configuration test")
        ready()
        assert leader() == before

    with subtest("a killed daemon comes back"):
        server.succeed("systemctl kill --signal=KILL tektond.service")
        ready()
        assert leader() == before

    with subtest("after a reboot all is there again"):
        server.shutdown()
        server.start()
        ready()

    with subtest("deletion leaves nothing"):
        server.succeed("tekton delete container/hello --wait")
        server.fail("ip -br link | grep '^tk'")
        server.fail("nft list table inet tekton")
  '';
}
