package host

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

// PostgresDirs is where distributions put several majors beside each other.
const PostgresDirs = "/usr/lib/postgresql/*/bin"

// PostgresPrograms lists where PostgreSQL's programs are, the newest first; a
// configured directory is the only one.
func PostgresPrograms(configured string) []string {
	if configured != "" {
		return []string{configured}
	}
	dirs, _ := filepath.Glob(PostgresDirs) // fails for a bad pattern only
	dirs = slices.DeleteFunc(dirs, func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "initdb"))
		return err != nil
	})
	slices.SortFunc(dirs, func(a, b string) int { return cmp.Compare(numberIn(b), numberIn(a)) })
	if program, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(program))
	}
	return dirs
}

func numberIn(binDir string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(binDir))) // 0, the oldest, for names that are no version
	return n
}
