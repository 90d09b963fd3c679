package database

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

const (
	mainConf  = "postgresql.conf"
	hbaConf   = "pg_hba.conf"
	identConf = "pg_ident.conf"
)

// confFiles in the order that they are written: the presence of the last says that the cluster exists.
var confFiles = [3]string{identConf, hbaConf, mainConf}

// flags are the settings of which a change needs a restart. They are arguments
// of the process, so that what runs can be read off it.
func (d *Driver) flags(v resource.Cluster) []string {
	listen := "" // the socket only
	if v.Listen.Addr().IsValid() {
		listen = v.Listen.Addr().String()
	}
	return []string{
		"-D", d.dataDir(),
		"-c", "config_file=" + d.conf(mainConf),
		"-c", "listen_addresses=" + listen,
		"-c", "port=" + portString(v.Listen.Port()),
		"-c", "max_connections=" + strconv.Itoa(v.MaxConnections),
		"-c", "superuser_reserved_connections=" + strconv.Itoa(min(reservedConnections, v.MaxConnections/2)),
	}
}

// clusterOf reads the value back from the arguments of a process.
func clusterOf(argv []string) resource.Cluster {
	settings := map[string]string{}
	for _, arg := range argv {
		if key, value, ok := strings.Cut(arg, "="); ok {
			settings[key] = value
		}
	}
	addr, _ := netip.ParseAddr(settings["listen_addresses"])
	port, _ := strconv.ParseUint(settings["port"], 10, 16)
	connections, _ := strconv.Atoi(settings["max_connections"])
	return resource.Cluster{Listen: netip.AddrPortFrom(addr, uint16(port)), MaxConnections: connections}
}

// mainConfig is postgresql.conf. The log must not hold what tenants send:
// no statements, no details of errors.
func (d *Driver) mainConfig() []byte {
	var b bytes.Buffer
	b.WriteString(fileHeader)
	set := func(key, value string) { fmt.Fprintf(&b, "%s = '%s'\n", key, strings.ReplaceAll(value, "'", "''")) }
	set("hba_file", d.conf(hbaConf))
	set("ident_file", d.conf(identConf))
	set("unix_socket_directories", `"`+d.socketDir()+`"`)
	set("unix_socket_permissions", "0700")
	set("password_encryption", "scram-sha-256")
	set("ssl", "off")
	set("tcp_keepalives_idle", "60")
	set("jit", "off")
	set("autovacuum_naptime", "5min")
	set("logging_collector", "off")
	set("log_destination", "stderr")
	set("log_line_prefix", "%m [%p] %d ")
	set("log_statement", "none")
	set("log_min_error_statement", "panic")
	set("log_error_verbosity", "terse")
	return b.Bytes()
}

// files are the configuration as it has to be, with the accesses that pg_hba.conf lists now.
func (d *Driver) files() (map[string][]byte, error) {
	h, err := d.readHBA()
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		identConf: ident(d.opts.User, h.restore),
		hbaConf:   h.render(),
		mainConf:  d.mainConfig(),
	}, nil
}

// writeFiles brings the configuration to what it has to be and returns the
// number of writes up to now.
func (d *Driver) writeFiles() (written int, err error) {
	d.hbaMu.Lock()
	defer d.hbaMu.Unlock()
	files, err := d.files()
	if err != nil {
		return 0, err
	}
	for _, name := range confFiles {
		if sameContent(d.conf(name), files[name]) {
			continue
		}
		d.written++
		if err := host.WriteFile(d.conf(name), files[name], 0o644); err != nil {
			return 0, err
		}
	}
	return d.written, nil
}

// filesRight reports whether the configuration is what it has to be and the
// server obeys it. Files that have not changed since they were found right are right.
func (d *Driver) filesRight() bool {
	d.hbaMu.Lock()
	defer d.hbaMu.Unlock()
	if d.written != d.enforced {
		return false
	}
	var now [3]fileID
	for i, name := range confFiles {
		id, err := identify(d.conf(name))
		if err != nil {
			return false
		}
		now[i] = id
	}
	if now == d.right && len(d.restoring) == 0 {
		return true
	}
	files, err := d.files()
	if err != nil {
		return false
	}
	for name, want := range files {
		if !sameContent(d.conf(name), want) {
			return false
		}
	}
	if len(d.restoring) == 0 {
		d.right = now
	}
	return true
}

func sameContent(path string, want []byte) bool {
	got, err := os.ReadFile(path)
	return err == nil && bytes.Equal(got, want)
}
