# A machine that serves its working directory, as a file of YAML.
pkgs: name: more:
pkgs.writeText "${name}.yaml" (
  builtins.toJSON {
    apiVersion = "tekton.host/v1alpha1";
    kind = "Container";
    metadata = { inherit name; };
    spec = {
      system.host = true;
      command = [ "python3" "-m" "http.server" "8080" ];
      routes = [
        {
          host = "${name}.test";
          port = 8080;
        }
      ];
    }
    // more;
  }
)
