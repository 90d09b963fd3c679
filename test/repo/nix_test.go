package repo

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
)

// TestNixFiles parses nix/ and, with NIXPKGS_LIB, evaluates the module.
func TestNixFiles(t *testing.T) {
	needs(t, "nix-instantiate")
	cmd := exec.Command("hack/check-nix.sh")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

// TestVendorHash compares the package's hash with what "go mod vendor" makes
// now, as a Nix builder would.
func TestVendorHash(t *testing.T) {
	needs(t, "nix-hash")
	vendor := filepath.Join(t.TempDir(), "vendor")
	run(t, "go", "mod", "vendor", "-o", vendor)
	sum, err := hex.DecodeString(strings.TrimSpace(run(t, "nix-hash", "--type", "sha256", vendor)))
	if err != nil {
		t.Fatal(err)
	}
	want := "sha256-" + base64.StdEncoding.EncodeToString(sum)
	text, err := os.ReadFile(filepath.Join(root, "nix/package.nix"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`vendorHash = "(.*)"`).FindSubmatch(text)
	if len(found) != 2 || string(found[1]) != want {
		t.Errorf("nix/package.nix: dependencies have changed; write vendorHash = %q", want)
	}
}

// needs skips, loudly, without a program; where skipping is forbidden it fails.
func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("TEKTON_TEST_REQUIRE") == "1" {
		t.Fatalf("needs %s; hack/deps.sh installs it", program)
	}
	t.Skipf("SKIPPED: needs %s; hack/deps.sh installs it", program)
}

// run runs a program in the repository's root and returns what it prints.
func run(t *testing.T, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(argv, " "), err, out, &stderr)
	}
	return string(out)
}

// nixEval evaluates an expression in the repository's root.
func nixEval(t *testing.T, expression string, into any) {
	t.Helper()
	needs(t, "nix-instantiate")
	out := run(t, "nix-instantiate", "--store", "dummy://", "--option", "build-users-group", "", "--eval", "--strict", "--json", "--expr", expression)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatal(err)
	}
}

// optionsAsData reads the module's options with a library that keeps types as
// data: {"option": TYPE}, and sets of options as sets.
const optionsAsData = `import ./nix/host-options.nix { lib = {
  mkOption = o: { option = o.type; };
  literalMD = text: text;
  types = {
    str = "string"; bool = "bool";
    nullOr = type: type;
    enum = values: { enum = values; };
    listOf = type: { list = type; };
    attrsOf = type: { map = type; };
    submodule = s: { sub = s.options; };
    strMatching = pattern: { inherit pattern; };
    either = a: b: { either = [ a b ]; };
    ints = { between = a: b: { between = [ a b ]; }; positive = "positive"; unsigned = "unsigned"; };
  };
}; }`

// TestModuleHasEveryHostField walks the Host type: what it has, the NixOS module
// must offer, and nothing else.
func TestModuleHasEveryHostField(t *testing.T) {
	var options map[string]any
	nixEval(t, optionsAsData, &options)
	for _, name := range []string{"Metadata", "Spec"} {
		f, _ := reflect.TypeFor[v1alpha1.Host]().FieldByName(name)
		compareOptions(t, strings.ToLower(name), f.Type, options[strings.ToLower(name)])
	}
}

func compareOptions(t *testing.T, path string, typ reflect.Type, options any) {
	set, ok := options.(map[string]any)
	if !ok {
		t.Errorf("%s is %v, want a set of options", path, options)
		return
	}
	known := map[string]bool{}
	for _, f := range reflect.VisibleFields(typ) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			continue
		}
		known[name] = true
		if set[name] == nil {
			t.Errorf("%s.%s has no option in the NixOS module; run: go run ./hack/gen", path, name)
			continue
		}
		compareOption(t, path+"."+name, f, set[name])
	}
	for name := range set {
		if !known[name] {
			t.Errorf("%s.%s is an option, but no field of the Host", path, name)
		}
	}
}

func compareOption(t *testing.T, path string, f reflect.StructField, got any) {
	typ := f.Type
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	_, text := reflect.New(typ).Interface().(json.Unmarshaler)
	if typ.Kind() == reflect.Struct && typ == f.Type && !text {
		compareOptions(t, path, typ, got)
		return
	}
	set, _ := got.(map[string]any)
	option := set["option"]
	if typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Struct {
		list, _ := option.(map[string]any)
		option, typ = list["list"], typ.Elem()
	}
	if typ.Kind() == reflect.Struct && !text {
		sub, _ := option.(map[string]any)
		compareOptions(t, path, typ, sub["sub"])
		return
	}
	if want := plainType(f, typ, text); !cmp.Equal(option, want) {
		t.Errorf("%s has type %v, want %v", path, option, want)
	}
}

// plainType is what the type of a field without fields of its own must be.
func plainType(f reflect.StructField, typ reflect.Type, text bool) any {
	if enum, ok := f.Tag.Lookup("enum"); ok {
		var values []any
		for v := range strings.SplitSeq(enum, ",") {
			values = append(values, v)
		}
		return map[string]any{"enum": values}
	}
	switch {
	case text && typ == reflect.TypeFor[v1alpha1.Duration]():
		return map[string]any{"pattern": `([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+|0`, "description": `duration such as "90s" or "1h30m"`}
	case text:
		return map[string]any{"either": []any{"positive", map[string]any{"pattern": "[0-9]+([KMGT]i?)?", "description": `size such as "512M"`}}}
	case typ.Kind() == reflect.Slice:
		return map[string]any{"list": "string"}
	case typ.Kind() == reflect.Map:
		return map[string]any{"map": "string"}
	case typ.Kind() == reflect.Int && f.Tag.Get("max") == "":
		return "unsigned"
	case typ.Kind() == reflect.Int:
		var bounds []any
		for _, tag := range []string{"min", "max"} {
			var n float64
			json.Unmarshal([]byte(f.Tag.Get(tag)), &n)
			bounds = append(bounds, n)
		}
		return map[string]any{"between": bounds}
	}
	return typ.Kind().String()
}

// TestModuleKnowsDefaults compares what the module takes for granted where a
// field is not set with what the daemon does.
func TestModuleKnowsDefaults(t *testing.T) {
	for _, instance := range []string{"", "demo"} {
		h := &v1alpha1.Host{Spec: v1alpha1.HostSpec{Instance: instance}}
		settings, _ := unset(reflect.TypeFor[v1alpha1.HostSpec]()).(map[string]any)
		if instance != "" {
			settings["instance"] = instance
		}
		raw, err := json.Marshal(settings)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		nixEval(t, "import ./nix/effective.nix (builtins.fromJSON ''"+string(raw)+"'')", &got)
		h.Default()
		s := h.Spec
		want := map[string]any{
			"instance": s.Instance, "stateDir": s.StateDir, "runDir": s.RunDir, "secretsDir": s.SecretsDir,
			"supervisor": s.Runtime.Supervisor, "socketGroup": s.SocketGroup,
			"ownDirs": []any{s.StateDir, s.RunDir}, "sourceDirs": []any{}, "writable": []any{s.StateDir, s.RunDir},
			"secretDirs": []any{}, "dropInDirs": []any{}, "subnet": s.Subnet, "service": "10.100.0.1",
			"links": "tk" + instance, "dnsPorts": []any{53.0}, "databasePorts": []any{float64(s.Postgres.Port)},
			"ingressPorts": []any{float64(s.Ingress.HTTPPort), float64(*s.Ingress.HTTPSPort)},
			"serviceUsers": []any{s.Ingress.User, s.Postgres.User, s.Git.User},
		}
		if instance != "" { // the daemon alone knows
			want["subnet"], want["service"] = nil, nil
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("instance %q: nix/effective.nix differs from the daemon (-daemon +module):\n%s", instance, diff)
		}
		if !strings.HasPrefix(s.Sources[0].Path, s.StateDir+"/") {
			t.Errorf("the default source %s is not below the state directory, as the module thinks", s.Sources[0].Path)
		}
	}
}

// unset is a struct with null in place of every field that is no struct.
func unset(t reflect.Type) any {
	_, text := reflect.New(t).Interface().(json.Unmarshaler)
	if t.Kind() != reflect.Struct || text {
		return nil
	}
	out := map[string]any{}
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			out[name] = unset(f.Type)
		}
	}
	return out
}

// TestUnitsAgree: what confines the daemon on NixOS does so on Debian.
func TestUnitsAgree(t *testing.T) {
	unit, err := os.ReadFile(filepath.Join(root, "packaging/tektond.service"))
	if err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile(filepath.Join(root, "nix/module/daemon.nix"))
	if err != nil {
		t.Fatal(err)
	}
	debian := map[string]string{}
	_, service, _ := strings.Cut(string(unit), "[Service]")
	for _, m := range regexp.MustCompile(`(?m)^(\w+)=(.*)$`).FindAllStringSubmatch(service, -1) {
		debian[m[1]] = strings.ReplaceAll(m[2], "yes", "true")
	}
	nixos := map[string]string{"WantedBy": "multi-user.target"}
	_, service, _ = strings.Cut(string(module), "serviceConfig = {")
	for _, m := range regexp.MustCompile(`(?m)^ {8}(\w+) = "?([^"]*?)"?;$`).FindAllStringSubmatch(service, -1) {
		nixos[m[1]] = m[2]
	}
	if len(nixos) < 10 {
		t.Fatalf("nix/module/daemon.nix: found only %v", nixos)
	}
	// Paths differ; NixOS knows which directories are written to.
	for _, differs := range []string{"ExecStart", "ExecReload", "ReadWritePaths", "ProtectSystem"} {
		delete(debian, differs)
		delete(nixos, differs)
	}
	if diff := cmp.Diff(nixos, debian); diff != "" {
		t.Errorf("the units differ (-nixos +debian):\n%s", diff)
	}
}

// TestInstall installs twice into a directory.
func TestInstall(t *testing.T) {
	needs(t, "systemd-analyze")
	dest := t.TempDir()
	bin := t.TempDir()
	run(t, "go", "build", "-o", bin+"/", "./cmd/...")
	install := func() { run(t, "make", "--silent", "install", "BIN="+bin, "DESTDIR="+dest, "PREFIX=/usr") }
	install()
	libexec := filepath.Join(dest, "usr/libexec/tekton")
	programs, err := filepath.Glob(filepath.Join(root, "cmd/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		if info, err := os.Stat(filepath.Join(libexec, filepath.Base(p))); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s is not installed as a program: %v", filepath.Base(p), err)
		}
	}
	config := filepath.Join(dest, "etc/tekton/host.yaml")
	run(t, filepath.Join(dest, "usr/bin/tekton"), "validate", config)
	run(t, filepath.Join(dest, "usr/sbin/tektond"), "--version")

	unit := filepath.Join(dest, "usr/lib/systemd/system/tektond.service")
	text, err := os.ReadFile(unit)
	if err != nil || !bytes.Contains(text, []byte("ExecStart=/usr/libexec/tekton/tektond ")) {
		t.Errorf("the unit does not start the installed daemon: %v\n%s", err, text)
	}
	// Verified where it can find the program that it names.
	copied := filepath.Join(t.TempDir(), "tektond.service")
	text = bytes.ReplaceAll(text, []byte("=/usr/libexec"), []byte("="+dest+"/usr/libexec"))
	if err := os.WriteFile(copied, text, 0o644); err != nil {
		t.Fatal(err)
	}
	// An unknown word is a warning, and the exit code 0.
	said, err := exec.Command("systemd-analyze", "verify", "--man=no", copied).CombinedOutput()
	if err != nil || bytes.Contains(said, []byte("tektond")) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, said)
	}
	run(t, "systemd-sysusers", "--dry-run", filepath.Join(dest, "usr/lib/sysusers.d/tekton.conf"))

	if err := os.WriteFile(config, []byte("# mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(filepath.Join(libexec, "tektond"))
	if err != nil {
		t.Fatal(err)
	}
	install()
	if text, _ := os.ReadFile(config); string(text) != "# mine\n" {
		t.Errorf("the second installation has changed host.yaml to %q", text)
	}
	after, err := os.Stat(filepath.Join(libexec, "tektond"))
	if err != nil || os.SameFile(before, after) {
		t.Errorf("the second installation has overwritten a program that may run: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(libexec, "*.new")); slices.Compact(left) != nil {
		t.Errorf("left behind: %v", left)
	}
}
