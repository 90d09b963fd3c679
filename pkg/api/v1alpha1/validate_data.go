package v1alpha1

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// trustedExtensions are those that PostgreSQL 15 lets a database's owner
// create; the others act with the server's own rights.
var trustedExtensions = strings.Fields(`
btree_gin btree_gist citext cube dict_int fuzzystrmatch hstore intarray isn lo ltree pg_trgm pgcrypto plpgsql
seg tablefunc tcn tsm_system_rows tsm_system_time unaccent uuid-ossp vector`)

func (v *containerCheck) volumes() {
	names := unique{}
	for i, vol := range v.spec.Volumes {
		p := specPath.Child("volumes").Index(i)
		v.label(p.Child("name"), vol.Name, "the data is found again by it")
		v.unique(names, vol.Name, p.Child("name"))
		v.inside(p.Child("path"), vol.Path)
		v.size(p.Child("sizeMax"), vol.SizeMax)
		if vol.Repository != nil {
			v.repository(p.Child("repository"), vol.Repository)
		}
	}
}

// inside checks a path of the machine where tekton puts something.
func (v *containerCheck) inside(p *field.Path, value string) {
	if !v.absPath(p, value, "say where it appears in the machine") {
		return
	}
	v.unique(v.paths, value, p)
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if below(dir, value) {
			v.invalid(p, value, "lies in %s, which the kernel provides", dir)
		}
	}
	if v.spec.System.Host && (below("/usr", value) || below("/nix", value)) {
		v.invalid(p, value, "lies in a directory of the host that system.host shows read-only; choose another one, such as /data")
	}
	if value == "/" {
		v.invalid(p, value, "is the root of the machine, which its system provides")
	}
}

// below reports whether the clean path is dir or lies in it.
func below(dir, path string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

func (v *containerCheck) databases() {
	list := specPath.Child("databases")
	if len(v.spec.Databases) > 0 && v.host.Postgres.Mode == "none" {
		v.forbidden(list, "this host has no PostgreSQL (Host spec.postgres.mode is none)")
	}
	names := unique{}
	for i, db := range v.spec.Databases {
		p := list.Index(i)
		v.label(p.Child("name"), db.Name, "the data is found again by it")
		v.unique(names, db.Name, p.Child("name"))
		if db.Name != "" && v.envName(p.Child("env"), db.Env) {
			v.unique(v.env, db.Env, p.Child("env"))
		}
		v.databaseTemplate(p.Child("template"), db.Template)
		seen := unique{}
		for j, name := range db.Extensions {
			at := p.Child("extensions").Index(j)
			v.unique(seen, name, at)
			if !extensionName.MatchString(name) {
				v.invalid(at, name, "is not the name of a PostgreSQL extension such as pg_trgm")
			} else if !slices.Contains(trustedExtensions, name) {
				v.needsTrust(at, "an extension that acts with the server's rights")
			}
		}
	}
}

// databaseTemplate checks the name of a database that others are made of.
func (v *checker) databaseTemplate(p *field.Path, name string) {
	if name != "" && !templateName.MatchString(name) {
		v.invalid(p, name, "must be the name of a database: letters, digits, '.', '_' and '-', at most 63, beginning with a letter, a digit or '_'")
	}
}

func (v *containerCheck) credentials() {
	names := unique{}
	for i, k := range v.spec.Credentials {
		p := specPath.Child("credentials").Index(i)
		v.credentialName(p.Child("name"), k.Name)
		v.unique(names, k.Name, p.Child("name"))
		if k.Secret != k.Name {
			v.credentialName(p.Child("secret"), k.Secret)
		}
		if k.Env != "" && v.envName(p.Child("env"), k.Env) {
			v.unique(v.env, k.Env, p.Child("env"))
		}
		if k.Path == "" || k.Name == "" || !v.absPath(p.Child("path"), k.Path, "") {
			continue
		}
		v.unique(v.paths, k.Path, p.Child("path"))
		if k.Path == "/run" || !below("/run", k.Path) {
			v.invalid(p.Child("path"), k.Path, "must lie below /run, which is memory: a secret never touches a disk")
		}
	}
}

func (v *checker) credentialName(p *field.Path, name string) {
	switch {
	case name == "":
		v.required(p, "name the credential")
	case !credentialName.MatchString(name):
		v.invalid(p, name, "must be letters, digits, '.', '_' and '-', at most 63, beginning with a letter or digit")
	}
}

func (v *containerCheck) mounts() {
	list := specPath.Child("mounts")
	if len(v.spec.Mounts) > 0 {
		v.needsTrust(list, "a mount of the host")
	}
	for i, m := range v.spec.Mounts {
		v.absPath(list.Index(i).Child("hostPath"), m.HostPath, "name a path of the host")
		v.inside(list.Index(i).Child("path"), m.Path)
	}
}

func (v *checker) resources(p *field.Path, r Resources) {
	v.size(p.Child("memoryMax"), r.MemoryMax)
	v.size(p.Child("memoryHigh"), r.MemoryHigh)
	v.size(p.Child("diskMax"), r.DiskMax)
	if r.MemoryMax != nil && r.MemoryHigh != nil && r.MemoryHigh.Bytes > r.MemoryMax.Bytes {
		v.invalid(p.Child("memoryHigh"), r.MemoryHigh.String(), "must not be more than memoryMax (%s): it slows down before memoryMax kills", r.MemoryMax)
	}
	if r.CPUQuota != "" {
		if _, err := ParseCPUQuota(r.CPUQuota); err != nil {
			v.invalid(p.Child("cpuQuota"), r.CPUQuota, "%v", err)
		}
	}
}
