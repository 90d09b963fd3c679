package setup

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"tekton.host/pkg/machine/handover"
	"tekton.host/pkg/repository"
	"tekton.host/pkg/resource"
)

const (
	// maxTree bounds the list of a commit's files, in bytes.
	maxTree = 64 << 20
	// maxLink bounds the target of a symbolic link.
	maxLink = 4096
)

// replaceCheckout streams the tree of the commit into the machine, just as git
// has it: no filter, no conversion, no attribute of the repository takes part.
func (a *attempt) replaceCheckout(ctx context.Context, c *resource.SetupCheckout) error {
	if c == nil {
		return nil
	}
	git, err := repository.Open(repository.Options{
		URL: "none://", Dir: c.Dir, RunDir: a.RunDir, User: a.GitUser, MaxSize: 1, Timeout: time.Duration(a.Deadline),
	})
	if err != nil {
		return err
	}
	defer git.Close()
	files, err := list(ctx, git, c.Commit)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, out := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(ctx, git, c.Commit, files, out)
		out.CloseWithError(err)
		packed <- err
	}()
	w := handover.Work{Checkout: &handover.WorkCheckout{Path: c.Path, User: c.User}}
	err = a.runWith(ctx, "replace the checkout", w, in)
	in.Close() // the machine may not have taken all of it
	if errPack := <-packed; err == nil && errPack != nil {
		return fmt.Errorf("read commit %s: %w", c.Commit, errPack)
	}
	return err
}

// file is one of a commit's tree.
type file struct {
	mode, object, name string
}

// Modes of git's trees.
const (
	modeFile, modeProgram, modeLink, modeSubmodule = "100644", "100755", "120000", "160000"
)

// list reads the tree of a commit, in git's order.
func list(ctx context.Context, git *repository.Repository, commit string) ([]file, error) {
	var out limited
	_, err := git.Run(ctx, repository.Run{Args: []string{"ls-tree", "-r", "-z", "--full-tree", commit}, Stdout: &out})
	if err != nil {
		return nil, fmt.Errorf("list the files of commit %s: %w", commit, err)
	}
	var files []file
	for entry := range strings.SplitSeq(strings.TrimSuffix(out.String(), "\x00"), "\x00") {
		if entry == "" {
			continue
		}
		head, name, _ := strings.Cut(entry, "\t")
		f := strings.Fields(head) // MODE TYPE OBJECT
		if len(f) != 3 {
			return nil, fmt.Errorf("list the files of commit %s: unexpected %q", commit, head)
		}
		files = append(files, file{f[0], f[2], name})
	}
	return files, nil
}

// limited keeps what is written, up to maxTree.
type limited struct{ strings.Builder }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxTree {
		return 0, fmt.Errorf("the commit has too many files: their list is longer than %d bytes", maxTree)
	}
	return l.Builder.Write(p)
}

// pack writes a tar archive of files, the manifest first.
func pack(ctx context.Context, git *repository.Repository, commit string, files []file, out io.Writer) error {
	manifest := handover.Tree{Commit: commit}
	var objects strings.Builder
	for _, f := range files {
		if f.mode != modeSubmodule {
			manifest.Files = append(manifest.Files, f.name)
			objects.WriteString(f.object + "\n")
		}
	}
	raw, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(out)
	if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: handover.Manifest, Mode: 0o644, Size: int64(len(raw))}); err != nil {
		return err
	}
	if _, err := archive.Write(raw); err != nil {
		return err
	}
	content, batch := io.Pipe()
	read := make(chan error, 1)
	go func() {
		_, err := git.Run(ctx, repository.Run{Args: []string{"cat-file", "--batch", "--buffer"}, Stdin: objects.String(), Stdout: batch})
		batch.CloseWithError(err)
		read <- err
	}()
	err = add(archive, files, bufio.NewReader(content))
	content.CloseWithError(err)
	if errRead := <-read; err == nil {
		err = errRead
	}
	if err != nil {
		return err
	}
	return archive.Close()
}

// add writes the entries, with their content out of `cat-file --batch`:
// OBJECT TYPE SIZE<lf>CONTENT<lf>.
func add(archive *tar.Writer, files []file, content *bufio.Reader) error {
	for _, f := range files {
		h := &tar.Header{Name: f.name, Format: tar.FormatGNU} // names are bytes
		if f.mode == modeSubmodule {
			h.Typeflag, h.Mode, h.Name = tar.TypeDir, 0o755, f.name+"/"
			if err := archive.WriteHeader(h); err != nil {
				return err
			}
			continue
		}
		line, err := content.ReadString('\n')
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		head := strings.Fields(line)
		if len(head) != 3 || head[0] != f.object || head[1] != "blob" {
			return fmt.Errorf("%s: git has no content for it: %q", f.name, line)
		}
		size, err := strconv.ParseInt(head[2], 10, 64)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if err := addBlob(archive, h, f.mode, size, content); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if _, err := content.Discard(1); err != nil {
			return err
		}
	}
	return nil
}

func addBlob(archive *tar.Writer, h *tar.Header, mode string, size int64, content io.Reader) error {
	switch mode {
	case modeLink:
		if size > maxLink {
			return fmt.Errorf("a symbolic link of %d bytes", size)
		}
		target := make([]byte, size)
		if _, err := io.ReadFull(content, target); err != nil {
			return err
		}
		h.Typeflag, h.Mode, h.Linkname = tar.TypeSymlink, 0o777, string(target)
		return archive.WriteHeader(h)
	case modeProgram:
		h.Mode = 0o755
	default:
		h.Mode = 0o644
	}
	h.Typeflag, h.Size = tar.TypeReg, size
	if err := archive.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.CopyN(archive, content, size)
	return err
}
