package handover

import (
	"fmt"
	"os"
)

// WorkVersion of Work.
const WorkVersion = 1

// Manifest is the name of the file in a checkout that says what tekton has put
// there, and of the first entry of the archive that a checkout is made of.
const Manifest = ".tekton-checkout"

// Work is one piece of a setup inside a running machine: the files, or the
// checkout, or the command.
type Work struct {
	Version  int           `json:"version"`
	Files    []WorkFile    `json:"files,omitempty"`
	Checkout *WorkCheckout `json:"checkout,omitempty"`

	Command []string `json:"command,omitempty"`
	User    string   `json:"user,omitempty"`
	WorkDir string   `json:"workDir,omitempty"`
	// Environment is KEY=VALUE; with Inherit beside that of the machine's command.
	Environment []string `json:"environment,omitempty"`
	Inherit     bool     `json:"inherit,omitempty"`
}

// WorkFile is a file to be written below /etc, /run, /tmp or its user's home.
type WorkFile struct {
	Path string `json:"path"`
	Mode uint32 `json:"mode"`
	User string `json:"user,omitempty"`
	Data []byte `json:"data"`
}

// WorkCheckout says where the tree goes that comes as a tar archive on
// standard input. Its first entry is the manifest.
type WorkCheckout struct {
	Path string `json:"path"`
	User string `json:"user,omitempty"`
}

// Tree is a manifest: what of a directory is tekton's, as JSON.
type Tree struct {
	Commit string   `json:"commit"`
	Files  []string `json:"files"` // slash-separated, relative
}

// SealWork writes the work into a sealed memory file.
func SealWork(w Work) (*os.File, error) {
	w.Version = WorkVersion
	return seal(w)
}

// OpenWork reads the work and closes the descriptor.
func OpenWork(fd uintptr) (w Work, err error) {
	if err := open(fd, &w); err != nil {
		return Work{}, err
	}
	if w.Version != WorkVersion {
		return Work{}, fmt.Errorf("setup has version %d, the tekton-init of this machine speaks %d: restart the machine", w.Version, WorkVersion)
	}
	return w, nil
}
