package database

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"tekton.host/pkg/resource"
)

const (
	// admin is the bootstrap superuser. Names of objects' roles always hold a "_".
	admin = "tekton"
	// adminDatabase is where the daemon's connections are.
	adminDatabase = "postgres"
)

// validName is what resource.Naming makes. Nothing in it needs quoting in SQL,
// in pg_hba.conf or in a file name; it is quoted all the same.
var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

func checkName(what, name string) error {
	if name == admin || name == adminDatabase || strings.HasPrefix(name, "template") || strings.HasPrefix(name, "pg_") || !validName.MatchString(name) {
		return resource.Terminal("InvalidName", fmt.Errorf("%s name %q: must be 1 to 63 characters of a-z, 0-9, _ and -, and not one of PostgreSQL's own", what, name))
	}
	return nil
}

// sparePrefix begins the names of spares. The installation id in it is their
// mark: nobody else has a reason to use it, and it is there from the first moment.
func sparePrefix(installation string) string { return "spare-" + installation + "-" }

// cloneName is that of a copy of a template on its way to being a database: the
// same each time, so that who tries again finds what a crash has left.
func cloneName(installation, database string) string {
	sum := sha256.Sum256([]byte(database))
	return clonePrefix(installation) + hex.EncodeToString(sum[:8])
}

func clonePrefix(installation string) string { return "clone-" + installation + "-" }

// isUnfinished reports whether a database of ours has not become an object's yet.
func isUnfinished(installation, name string) bool {
	return strings.HasPrefix(name, sparePrefix(installation)) || strings.HasPrefix(name, clonePrefix(installation))
}

func newSpareName(installation string) string {
	b := make([]byte, 8)
	rand.Read(b)
	return sparePrefix(installation) + hex.EncodeToString(b)
}

// literal quotes a string for statements that take no parameters. Our sessions
// have standard_conforming_strings on: a backslash is nothing special.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
