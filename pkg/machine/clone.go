package machine

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"tekton.host/pkg/machine/handover"
	"tekton.host/pkg/repository"
	"tekton.host/pkg/resource"
)

// staging is where a volume is made that git's user writes: the volume's own
// parents are closed to it.
func (d *Driver) staging(dir string) string {
	rel, err := filepath.Rel(d.opts.Layout.Volumes(), dir)
	if err != nil {
		rel = filepath.Base(dir)
	}
	return filepath.Join(d.opts.Layout.Staging(), strings.ReplaceAll(rel, "/", "."))
}

// clone makes what is to be a volume of a repository, in its staging, and returns
// where: whole, or not at all.
func (d *Driver) clone(ctx context.Context, c resource.Clone, dir string) (string, error) {
	staging := d.staging(dir)
	if err := os.RemoveAll(staging); err != nil {
		return "", err
	}
	tree := filepath.Join(staging, "tree")
	uid, gid := ownerOf(c.User)
	err := repository.Clone{
		From: c.Dir, Commit: c.Commit, Branch: c.Branch, URL: c.URL, Dir: tree,
		RunDir: filepath.Join(d.opts.Layout.RunService("clones"), filepath.Base(staging)), User: d.opts.GitUser, UID: uid, GID: gid,
	}.Make(ctx)
	if err != nil {
		return "", resource.Because("CloneFailed", err)
	}
	return tree, nil
}

// ownerOf are the ids of a machine's user. Names are known to the machine only,
// which hands over at its start what nobody owns.
func ownerOf(user string) (uid, gid int) {
	if user == "" {
		return 0, 0
	}
	first, second, both := strings.Cut(user, ":")
	if !both {
		second = first
	}
	uid, errUID := strconv.Atoi(first)
	gid, errGID := strconv.Atoi(second)
	if errUID != nil || errGID != nil {
		return handover.Nobody, handover.Nobody
	}
	return uid, gid
}
