{
  lib,
  buildGo126Module,
  installShellFiles,
  stdenv,
  version ? "unstable",
}:
buildGo126Module {
  pname = "tekton";
  inherit version;
  # All of the Go code: what "go mod vendor" takes depends on every import, also those of tests.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../cmd
      ../examples
      ../go.mod
      ../go.sum
      ../hack
      ../pkg
      ../specs
      ../test
    ];
  };
  # Computed without a Nix builder, as the hash of what "go mod vendor" makes;
  # TestVendorHash in test/repo fails, and names the new one, when go.mod changes it.
  vendorHash = "sha256-v6ngVX9/5Ch922ag4GdteOtN58kw3rVqvyRGkfK9IZ4=";

  env.CGO_ENABLED = 0;
  ldflags = [
    "-s"
    "-w"
    "-X tekton.host/pkg/server/wire.version=${version}"
  ];
  # They find each other by lying in one directory.
  subPackages = map (name: "cmd/${name}") [
    "tekton"
    "tekton-init"
    "tekton-launch"
    "tekton-status"
    "tekton-supervise"
    "tekton-webhook"
    "tektond"
  ];

  # The other rings need root, links and machines.
  checkPhase = ''
    runHook preCheck
    go test ./pkg/api/... ./pkg/spec/... ./pkg/compile/... ./pkg/plan/... ./pkg/absence/...
    runHook postCheck
  '';

  nativeBuildInputs = [ installShellFiles ];
  postInstall = ''
    install -D -m 0644 -t $out/share/tekton specs/*.schema.json
  ''
  + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    $out/bin/tekton man man
    installManPage man/*.1
    for shell in bash zsh fish; do
      $out/bin/tekton completion $shell >tekton.$shell
      installShellCompletion --cmd tekton --$shell tekton.$shell
    done
  '';

  meta = {
    description = "Converges a host to YAML specs of containers, routes and databases";
    license = lib.licenses.asl20;
    platforms = lib.platforms.linux;
    mainProgram = "tekton";
  };
}
