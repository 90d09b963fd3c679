# Every field of the Host file as an option. Generated from pkg/api/v1alpha1 by
# "go run ./hack/gen"; change the types there, not this file. A field that is
# not set is left out of the file: the daemon alone knows the defaults.
{ lib }:
let
  inherit (lib) mkOption types;
  optional = type: default: description: mkOption {
    inherit description;
    type = types.nullOr type;
    default = null;
    defaultText = lib.literalMD default;
  };
  required = type: description: mkOption { inherit type description; };
  duration = types.strMatching "([0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h))+|0" // { description = "duration such as \"90s\" or \"1h30m\""; };
  size = types.either types.ints.positive (types.strMatching "[0-9]+([KMGT]i?)?" // { description = "size such as \"512M\""; });
in
{
  metadata = {
    name = required types.str "name is a DNS label of at most 40 characters, unique across all kinds that run a machine.";
    labels = optional (types.attrsOf types.str) "none" "labels select objects in `tekton get -l`.";
    annotations = optional (types.attrsOf types.str) "none" "annotations carry data for other tools; tekton ignores them.";
  };
  spec = {
    instance = optional types.str "none" "instance enters every host-global name, so that several daemons live side by side; at most 4 characters [a-z0-9], the last one a letter.";
    stateDir = optional types.str "`/var/lib/tekton` (/var/lib/tekton-INSTANCE with an instance)" "stateDir keeps the ledger, roots, volumes, databases.";
    runDir = optional types.str "`/run/tekton` (/run/tekton-INSTANCE with an instance)" "runDir keeps sockets and what ends with a boot.";
    secretsDir = optional types.str "`/var/lib/tekton/secrets` (below stateDir)" "secretsDir holds one file a secret, 0600 root.";
    socketGroup = optional types.str "`tekton`" "socketGroup may use the daemon's socket beside root.";
    readSocketGroup = optional types.str "none" "readSocketGroup may use the socket RUNDIR/read.sock, which shows objects, their status and events and changes nothing; absent: there is no such socket. tekton-webhook and tekton-status need it.";
    operateSocketGroup = optional types.str "none" "operateSocketGroup may use the socket RUNDIR/operate.sock, which shows the same and what machines print, and has machines start anew and git sources pause; absent: there is no such socket. tekton-status needs it for logs and actions.";
    subnet = optional types.str "`10.100.0.0/16` (with an instance 10.N.0.0/16, N from 101 to 250 by its name)" "subnet of the machines, IPv4, /16 to /28.";
    domain = optional types.str "none" "domain of the host's own names: unknown hosts below it get our 404.";
    publishAddress = optional types.str "none" "publishAddress for ports without hostIP; absent: hostIP is required.";
    runtime = {
      supervisor = optional (types.enum [ "auto" "supervised" "systemd" ]) "`auto`" "supervisor: auto (systemd where it is PID 1), supervised, systemd.";
      seccomp = optional types.bool "`true`" "seccomp false drops nspawn's system call filter: faster starts, one protection less.";
      logMax = optional size "`16M`" "logMax bounds the log of one machine; two files of half of it are kept.";
    };
    ingress = {
      mode = optional (types.enum [ "managed" "system" "none" ]) "`managed`" "mode: managed (a Caddy of our own), system (the host's own Caddy, whose Caddyfile imports our sites), none.";
      httpPort = optional (types.ints.between 1 65535) "`80`" "httpPort that it listens on.";
      httpsPort = optional (types.ints.between 0 65535) "`443`" "httpsPort that it listens on; 0 serves no TLS.";
      tls = optional (types.enum [ "off" "internal" "files" "acme" ]) "`internal` (off where httpsPort is 0)" "tls of routes that do not say: off, internal, files, acme.";
      acme = {
        directory = optional types.str "`https://acme-v02.api.letsencrypt.org/directory`" "directory of the authority, a URL.";
        email = optional types.str "none" "email that the authority may write to.";
        rootsFile = optional types.str "none" "rootsFile holds certificates, PEM, to check a private authority's own with; absent: the host's.";
      };
      certificates = optional (types.listOf (types.submodule { options = {
        hosts = required (types.listOf types.str) "hosts that it is for: \"web.example.org\", \"*.example.org\" (one label).";
        certFile = required types.str "certFile holds the certificate and its chain, PEM.";
        keyFile = required types.str "keyFile holds the private key, PEM.";
      }; })) "none" "certificates for TLS mode files.";
      gracePeriod = optional duration "`30s`" "gracePeriod that open connections keep over a change.";
      user = optional types.str "`caddy`" "user that Caddy runs as.";
      caddyfile = optional types.str "`/etc/caddy/Caddyfile`" "caddyfile of the host's own Caddy, which has to have the line that imports our sites. Mode system.";
      admin = optional types.str "`localhost:2019`" "admin endpoint of the host's own Caddy: \"localhost:2019\", \"unix//run/caddy/admin.sock\". Mode system.";
    };
    postgres = {
      mode = optional (types.enum [ "managed" "system" "none" ]) "`managed`" "mode: managed (a PostgreSQL of our own), system (the host's own PostgreSQL), none.";
      user = optional types.str "`postgres`" "user that the server runs as; not root. Mode system: also the superuser that we are, over the socket.";
      binDir = optional types.str "none" "binDir holds initdb, postgres, pg_dump; absent: the newest found on the host.";
      port = optional (types.ints.between 1 65535) "`5432`" "port on the service address.";
      socketDir = optional types.str "`/run/postgresql`" "socketDir of the host's own PostgreSQL. Mode system.";
      maxConnections = optional (types.ints.between 10 10000) "`200`" "maxConnections of the server of our own.";
      connectionLimit = optional (types.ints.between 1 10000) "`20` (at most a quarter of maxConnections)" "connectionLimit of each role.";
    };
    dns = {
      mode = optional (types.enum [ "managed" "none" ]) "`managed`" "mode: managed, none.";
      domain = optional types.str "`tekton.internal`" "domain of machine names.";
      upstreams = optional (types.listOf types.str) "none" "upstreams that other names are forwarded to; absent: the host's resolv.conf.";
      resolved = optional types.bool "none" "resolved true has the host itself resolve names of machines, by a drop-in for systemd-resolved while there are machines.";
    };
    nix = {
      user = optional types.str "`nobody`" "user that Nix code is evaluated as; not root. It must be able to read flakes that are directories of the host.";
      parallelBuilds = optional (types.ints.between 1 64) "`2`" "parallelBuilds at most; others wait.";
      buildTimeout = optional duration "`1h`" "buildTimeout of one build: locking, evaluation and all.";
      memoryMax = optional size "none" "memoryMax of one build; where the host runs a Nix daemon, of its evaluation.";
      cpuQuota = optional types.str "none" "cpuQuota of one build, such as 150%; where the host runs a Nix daemon, of its evaluation.";
    };
    previews = {
      domain = optional types.str "none" "domain of previews: NAME.DOMAIN.";
      systems = optional (types.listOf (types.submodule { options = {
        name = required types.str "name by which a preview.yaml names it.";
        system = {
          host = optional types.bool "`true`" "host true: the host's own userland, read-only; no image is needed.";
          rootfs = optional types.str "none" "rootfs is a directory of the host, the read-only lower layer.";
          storePath = optional types.str "none" "storePath is a built NixOS closure in the Nix store.";
          flake = optional types.str "none" "flake is built on the host: REFERENCE#ATTRIBUTE, such as git+https://example.org/app?ref=main#nixosConfigurations.app.config.system.build.toplevel.";
          refresh = optional duration "none" "refresh is how often a flake's reference that can move, such as a branch, is looked up again; absent: only when the flake field changes.";
        };
      }; })) "none" "systems that a preview.yaml may name as its base; the first is that of one that names none.";
      nix = optional (types.submodule { options = {
        flake = required types.str "flake with a function, as REF#ATTR: of what a preview-config.nix evaluates to, it makes what config.system.build is. All its inputs are locked.";
        refresh = optional duration "none" "refresh looks the flake up again that often; absent: it stays as it was when a configuration was first built.";
        fetch = optional types.bool "none" "fetch true: what is in no binary cache may be loaded while it is built, by programs that have the host's network.";
      }; }) "none" "nix lets previews be of a preview-config.nix; absent: of a preview.yaml only.";
    };
    sources = optional (types.listOf (types.submodule { options = {
      name = required types.str "name of the source, a DNS label.";
      path = optional types.str "`/var/lib/tekton/specs` (below stateDir)" "path of a directory with *.yaml and *.yml files; not with git.";
      git = optional (types.submodule { options = {
        url = required types.str "url of the repository: https://HOST/PATH or ssh://USER@HOST/PATH.";
        branch = optional types.str "`main` (where there is git)" "branch to follow.";
        path = optional types.str "none" "path of the directory with *.yaml and *.yml files, as in the repository; absent: its top.";
        interval = optional duration "`1m` (where there is git)" "interval at which the branch is looked at, beside `tekton source sync`.";
        timeout = optional duration "`2m` (where there is git)" "timeout of one look.";
        maxSize = optional size "`256M` (where there is git)" "maxSize of what one fetch may bring.";
        partial = optional types.bool "none" "partial true takes the good files of a commit though others have problems; else a commit is taken whole or not at all.";
        auth = {
          sshKeyFile = optional types.str "none" "sshKeyFile holds the private key, without a passphrase; ssh only.";
          knownHostsFile = optional types.str "none" "knownHostsFile holds the remote's host keys; required with ssh.";
          tokenFile = optional types.str "none" "tokenFile holds a token or password; https only.";
          username = optional types.str "`git` (where there is a tokenFile)" "username that goes with the token.";
        };
        verify = optional (types.submodule { options = {
          allowedSignersFile = required types.str "allowedSignersFile lists SSH keys and whose they are, as ssh-keygen(1) describes it.";
        }; }) "none" "verify demands that commits are signed.";
      }; }) "none" "git repository that the specs are read from; not with path.";
      allow = optional (types.submodule { options = {
        kinds = optional (types.listOf types.str) "none" "kinds; absent: all.";
        maxTrust = optional (types.enum [ "untrusted" "trusted" ]) "`untrusted` (where there is allow)" "maxTrust: untrusted (default), trusted.";
        domains = optional (types.listOf types.str) "none" "domains that routes may use: \"preview.example.org\" (exact), \"*.preview.example.org\" (one label below).";
        linkTargets = optional (types.listOf types.str) "none" "linkTargets that network.links may name; \"*\" for all.";
        secrets = optional (types.listOf types.str) "none" "secrets that credentials and repositories may name; \"*\" for all.";
        hostPaths = optional (types.listOf types.str) "none" "hostPaths below which mounts and rootfs may lie; links below them do not lead out.";
        hostPorts = optional (types.listOf types.str) "none" "hostPorts that may be published: \"8000-8999\", \"25\".";
        flakes = optional (types.listOf types.str) "none" "flakes that may be built: a whole REFERENCE#ATTRIBUTE, or its beginning and \"*\".";
        repositories = optional (types.listOf types.str) "none" "repositories that may be fetched: a whole url, or its beginning and \"*\"; an entry without \"://\" is the name of a Repository that Previews may name, or its beginning and \"*\". \"*\" alone is all of both.";
        databaseTemplates = optional (types.listOf types.str) "none" "databaseTemplates that databases may be made as copies of; \"*\" for all.";
        maxObjects = optional types.ints.unsigned "none" "maxObjects of the source; 0: no limit.";
      }; }) "none" "allow admits specs; absent: everything (the operator's own directory).";
    }; })) "none" "sources of specs; absent: one directory \"local\" at STATEDIR/specs that may do everything.";
    git = {
      user = optional types.str "`tekton-git`" "user that git and ssh run as; not root.";
      knownHostsFile = optional types.str "`/etc/ssh/ssh_known_hosts`" "knownHostsFile holds the host keys of the ssh servers that objects' repositories are fetched from.";
      parallelFetches = optional (types.ints.between 1 64) "`4`" "parallelFetches of objects' repositories at most; others wait.";
      fetchTimeout = optional duration "`10m`" "fetchTimeout of one fetch of an object's repository.";
      maxSize = optional size "`1G`" "maxSize of what a fetch of an object's repository may bring, and of the files of its commit.";
    };
    metrics = {
      address = optional types.str "none" "address and port that answer GET /metrics in plain HTTP, \"127.0.0.1:9842\"; absent: only the daemon's socket does. Names of objects and sources are in the answer, so it is no address for everybody.";
    };
    notifications = optional (types.listOf (types.submodule { options = {
      name = required types.str "name of the notification, a DNS label.";
      command = optional (types.listOf types.str) "none" "command to run, as a list; not with url.";
      user = optional types.str "`nobody` (only with command)" "user that the command runs as.";
      url = optional types.str "none" "url that gets the JSON: https://HOST/PATH or http://HOST/PATH; not with command.";
      tokenFile = optional types.str "none" "tokenFile holds a token that is sent as Authorization: Bearer.";
      after = optional duration "`30s`" "after is how long an object has not been Ready before it is told: updates and restarts are no news.";
    }; })) "none" "notifications tell programs or web hooks of objects that turn Ready or not Ready.";
    trashFor = optional duration "`72h`" "trashFor is how long deleted data is kept.";
    slotCooldown = optional duration "`5m`" "slotCooldown before an address is used again.";
    parallelStarts = optional (types.ints.between 0 1024) "none" "parallelStarts of machines; 0: four a CPU.";
  };
}
