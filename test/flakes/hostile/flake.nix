# What a stranger's flake may try. Each attribute must fail, for the reason that
# its test names.
{
  outputs =
    { self }:
    let
      build =
        text:
        derivation {
          name = "hostile";
          system = "x86_64-linux";
          builder = "/bin/sh";
          inherit text;
        };
      loop = n: loop (n + 1);
    in
    {
      readsHost = build (builtins.readFile /etc/passwd);
      readsEnvironment = build (if builtins.getEnv "HOME" == "" then throw "no environment" else "seen");
      fetches = build (builtins.readFile (builtins.fetchurl "file:///etc/passwd"));
      large = build (toString (builtins.length (builtins.genList (n: n) 100000000)));
      endless = build (toString (loop 0));
      noDerivation = "text";
      escapes = derivation {
        name = "escapes";
        system = "x86_64-linux";
        builder = "/proc/1/root/bin/sh";
      };
    };
}
